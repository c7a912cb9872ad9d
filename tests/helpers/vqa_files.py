"""VQA v2 made small, in its official layout and as a compact sample."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

ASKED = [  # image, number, question, answers
    (42, 42000, "Is it red?", ["yes"] * 9 + ["no"]),
    (42, 42001, "What is it?", ["cat"] * 6 + ["dog"] * 4),
    (9, 9000, "Is it?", ["yes"] * 10),
]


def official(root: Path, split: str = "val") -> Path:
    (root / "vqa").mkdir(parents=True, exist_ok=True)
    folder = root / "coco" / f"{split}2014"
    folder.mkdir(parents=True)
    questions = [{"image_id": i, "question_id": n, "question": q} for i, n, q, _ in ASKED]
    annotations = [
        {
            "image_id": i, "question_id": n, "answer_type": "other", "multiple_choice_answer": a[0],
            "answers": [{"answer": x, "answer_confidence": "yes", "answer_id": k} for k, x in enumerate(a, start=1)],
        }
        for i, n, _, a in reversed(ASKED)
    ]  # fmt: skip
    name = root / "vqa" / f"v2_OpenEnded_mscoco_{split}2014_questions.json"
    name.write_text(json.dumps({"questions": questions}))
    name = root / "vqa" / f"v2_mscoco_{split}2014_annotations.json"
    name.write_text(json.dumps({"annotations": annotations}))
    for i in (42, 9):
        Image.new("RGB", (20 + i, 30), (i, 0, 0)).save(folder / f"COCO_{split}2014_{i:012d}.jpg")
    return name


def sample(root: Path) -> None:
    (root / "vqa" / "images").mkdir(parents=True)
    rows = [
        {
            "image": f"{i:012d}.jpg",
            "question_id": n,
            "question": q,
            "answer": a[0],
            "answer_type": "other",
            "answers": a,
        }
        for i, n, q, a in ASKED
    ]
    (root / "vqa" / "questions.json").write_text(json.dumps(rows))
    for i in (42, 9):
        Image.new("RGB", (20 + i, 30), (i, 0, 0)).save(root / "vqa" / "images" / f"{i:012d}.jpg")
