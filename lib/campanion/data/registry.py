"""The one list of data sets: what each is, where it may lie, under which terms, and how to get it.

Paths are relative to the data folder (``CAMPANION_DATA``). A set with a ``reader`` can be opened; one with ``archives``
can be fetched; the others say in a sentence how they are obtained.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torchvision import datasets as tv
from torchvision.datasets.voc import DATASET_YEAR_DICT

from campanion import paths
from campanion.data import classification, coco, imagenet, voc, vqa, weights
from campanion.data.entries import Archive, Entry, Layout
from campanion.data.samples import Dataset
from campanion.errors import unknown


def find_entry(name: str) -> Entry:
    """The entry called ``name``: one of :data:`DATASETS`, or ``weights/NAME`` of any torchvision classifier.

    Raises:
        ValueError: neither; lists the names of :data:`DATASETS`.
    """
    entry = DATASETS.get(name) or weights.entry(name)
    if entry is None:
        raise ValueError(unknown("data set or weights", name, DATASETS))
    return entry


def open_dataset(name: str, root: str | Path | None = None, split: str | None = None, **options: object) -> Dataset:
    """Open a data set by name.

    Args:
        name: a name of :data:`DATASETS` that has a reader.
        root: the data folder, by default ``CAMPANION_DATA``; generated sets need none.
        split: the part of the set; its default is the part that the papers evaluate on.
        options: passed to generated sets (``n``, by default 1000, and ``seed``).

    Raises:
        ValueError: unknown name or split; lists what can be opened.
        MissingData: the set is not in the data folder; says how to get it.

    >>> data = open_dataset("imagenet-val")
    >>> data[data.order()[0]].image.mode
    'RGB'
    """
    readers = {known: entry.reader for known, entry in DATASETS.items() if entry.reader}
    if name not in readers:
        raise ValueError(unknown("data set", name, readers))
    return readers[name](Path(root).expanduser() if root is not None else paths.data_dir(), split, **options)


def _open_scenes(root: Path, split: str | None, n: int = 1000, **options: object) -> Dataset:
    from campanion.data.scenes import SceneDataset  # only here: drawing needs packages that reading does not

    return SceneDataset(n, split=split or "test", **options)


_COCO = "http://images.cocodataset.org"
_VQA = "https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa"
_FLICKR = "pictures: their Flickr owners' terms"
_VOC_TRAINVAL, _VOC_TEST = DATASET_YEAR_DICT["2007"], DATASET_YEAR_DICT["2007-test"]
_VOC = "VOCdevkit/VOC2007/ImageSets/Main"
_COCO_2017 = (
    Archive(f"{_COCO}/zips/val2017.zip", "coco", "val2017", "442b8da7639aecaf257c1dceb8ba8c80"),
    Archive(
        f"{_COCO}/annotations/annotations_trainval2017.zip",
        "coco",
        "annotations/instances_val2017.json",
        "f4bbac642086de4f52a3fdda2de5fa2c",
    ),
)

DATASETS: dict[str, Entry] = {
    "imagenet-val": Entry(
        title="ImageNet (ILSVRC2012), 50,000 validation pictures",
        licence=imagenet.LICENCE,
        size="6.3 GB, boxes 2 MB",
        layouts=(Layout("ILSVRC2012/val", "**/*.[Jj][Pp]*[Gg]"), Layout("imagenet-val/images", "*")),
        obtain="ImageNet may not be passed on: register at https://image-net.org/download, then unpack "
        "ILSVRC2012_img_val.tar into ILSVRC2012/val (flat or one folder per WordNet id), ILSVRC2012_devkit_t12.tar.gz "
        "into ILSVRC2012, and ILSVRC2012_bbox_val_v3.tgz into ILSVRC2012/val_boxes.",
        reader=imagenet.open_imagenet_val,
    ),
    "scenes": Entry(
        title="generated scenes of textured objects",
        licence="MIT (drawn by this project)",
        size="0",
        layouts=(),
        obtain="Nothing to obtain: the pictures are drawn from a seed.",
        reader=_open_scenes,
    ),
    "voc2007": Entry(
        title="Pascal VOC 2007, trainval and test",
        licence=_FLICKR,
        size="0.9 GB",
        layouts=(Layout("voc2007/VOCdevkit/VOC2007/JPEGImages", "*.jpg"), Layout("voc2007/JPEGImages", "*.jpg")),
        archives=(
            Archive(_VOC_TRAINVAL["url"], "voc2007", f"{_VOC}/trainval.txt", _VOC_TRAINVAL["md5"]),
            Archive(_VOC_TEST["url"], "voc2007", f"{_VOC}/test.txt", _VOC_TEST["md5"]),
        ),
        reader=voc.open_voc2007,
    ),
    "coco-val2017": Entry(
        title="COCO val2017, 5,000 pictures",
        licence=f"annotations CC BY 4.0; {_FLICKR}",
        size="1.1 GB",
        layouts=(Layout("coco/val2017", "*.jpg"), Layout("coco/images", "*.jpg")),
        archives=_COCO_2017,
        reader=coco.open_coco,
    ),
    "coco-voc": Entry(
        title="COCO val2017, pictures of VOC's 20 classes",
        licence=f"annotations CC BY 4.0; {_FLICKR}",
        size="as coco-val2017, the same files",
        layouts=(Layout("coco/val2017", "*.jpg"), Layout("coco/images", "*.jpg")),
        archives=_COCO_2017,
        reader=coco.open_coco_voc,
    ),
    "coco-val2014": Entry(
        title="COCO val2014, 40,504 pictures",
        licence=f"annotations CC BY 4.0; {_FLICKR}",
        size="6.9 GB",
        layouts=(Layout("coco/val2014", "*.jpg"),),
        archives=(
            Archive(f"{_COCO}/zips/val2014.zip", "coco", "val2014", "a3d79f5ed8d289b7a7554ce06a5782b3"),
            Archive(
                f"{_COCO}/annotations/annotations_trainval2014.zip",
                "coco",
                "annotations/instances_val2014.json",
                "0a379cfc70b0e71301e0f377548639bd",
            ),
        ),
        reader=partial(coco.open_coco, year=2014),
    ),
    "cifar10": Entry(
        title="CIFAR-10, 60,000 pictures of 32x32",
        licence="none stated",
        size="170 MB",
        layouts=(Layout("cifar10/cifar-10-batches-py"), Layout("cifar10/cifar10-jpeg.npz")),
        archives=(Archive(tv.CIFAR10.url, "cifar10", "cifar-10-batches-py", tv.CIFAR10.tgz_md5),),
        reader=classification.open_cifar10,
    ),
    "cifar100": Entry(
        title="CIFAR-100, 60,000 pictures of 32x32",
        licence="none stated",
        size="169 MB",
        layouts=(Layout("cifar100/cifar-100-python"),),
        archives=(Archive(tv.CIFAR100.url, "cifar100", "cifar-100-python", tv.CIFAR100.tgz_md5),),
        reader=classification.open_cifar100,
    ),
    "stl10": Entry(
        title="STL-10, 13,000 labelled pictures of 96x96",
        licence="none stated (pictures from ImageNet)",
        size="2.6 GB",
        layouts=(Layout("stl10/stl10_binary"),),
        archives=(Archive(tv.STL10.url, "stl10", "stl10_binary", tv.STL10.tgz_md5),),
        reader=classification.open_stl10,
    ),
    "imagenette": Entry(
        title="Imagenette, ten classes of ImageNet, 160 px",
        licence="Apache-2.0; pictures as ImageNet's",
        size="99 MB",
        layouts=(Layout("imagenette/imagenette2-160", "*/*/*.JPEG"), Layout("imagenette96", "*/*/*")),
        archives=(
            Archive(
                "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",
                "imagenette",
                "imagenette2-160",
                "e793b78cc4c9e9a4ccc0c1155377a412",
            ),
        ),
        reader=classification.open_imagenette,
    ),
    "cats-dogs": Entry(
        title="Kaggle cats and dogs, LFI-CAM's split",
        licence="CC0",
        size="0.2 GB",
        layouts=(Layout("cats-dogs", "*/*/*"),),
        obtain="Kaggle asks for an account: download https://www.kaggle.com/datasets/tongpython/cat-and-dog and put "
        "the class folders of training_set into cats-dogs/train, those of test_set into cats-dogs/test.",
        reader=classification.open_cats_dogs,
    ),
    "vqa-v2": Entry(
        title="VQA v2, questions and answers on COCO 2014",
        licence="CC BY 4.0",
        size="44 MB, pictures: coco-val2014, coco-train2014",
        layouts=(Layout("vqa", "v2_*_val2014_*.json"), Layout("vqa/questions.json")),
        archives=tuple(
            Archive(f"{_VQA}/{file}", "vqa", makes, sha256=digest)
            for file, makes, digest in (
                (
                    "v2_Questions_Val_mscoco.zip",
                    "v2_OpenEnded_mscoco_val2014_questions.json",
                    "e71f6c5c3e97a51d050f28243e262b28cd0c48d11a6b4632d769d30d3f93222a",
                ),
                (
                    "v2_Annotations_Val_mscoco.zip",
                    "v2_mscoco_val2014_annotations.json",
                    "0caae7c8d1dafd852727f5ac046bc1efca9b72026bd6ffa34fc489f3a7b3291e",
                ),
                (
                    "v2_Questions_Train_mscoco.zip",
                    "v2_OpenEnded_mscoco_train2014_questions.json",
                    "05a64b6e2582d06d7585f5429674a9a33851878be1bff9f8668cdcf792df611e",
                ),
                (
                    "v2_Annotations_Train_mscoco.zip",
                    "v2_mscoco_train2014_annotations.json",
                    "fb101bcefe91422c543c2bb6d70af11eb3119d0ff745ae283d09acdf66250853",
                ),
            )
        ),
        reader=vqa.open_vqa,
    ),
    "coco-train2014": Entry(
        title="COCO train2014, 82,783 pictures (to train on VQA v2)",
        licence=f"annotations CC BY 4.0; {_FLICKR}",
        size="13.5 GB",
        layouts=(Layout("coco/train2014", "*.jpg"),),
        archives=(Archive(f"{_COCO}/zips/train2014.zip", "coco", "train2014", "0da8c0bd3d6becc4dcb32757491aca88"),),
    ),
    **weights.ENTRIES,
}
