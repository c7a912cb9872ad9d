"""Train a network: ``python -m campanion.train CONFIG [setting=value ...]``.

CONFIG is a YAML file, or the name of one in ``configs/``; settings given behind it come on top. The same command
continues a training that was stopped. Many processes: ``torchrun --nproc_per_node=N -m campanion.train CONFIG``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from campanion.errors import MissingData
from campanion.training.settings import parse_changes, read_config


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m campanion.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help="a YAML file, or a name in configs/")
    parser.add_argument("settings", nargs="*", metavar="setting=value", help="such as lr=0.07 seed=1 attention=lfi")
    parser.add_argument("--show", action="store_true", help="print the settings and the run's folder; train nothing")
    given = parser.parse_args(arguments)
    try:
        config = read_config(given.config, parse_changes(given.settings))
        if given.show:
            print(json.dumps({**config.settled(), "folder": str(config.place)}, indent=2))
            return
        from campanion.training.loop import train  # only here: accelerate takes seconds to import

        facts = train(config)
    except (MissingData, ValueError) as problem:
        parser.exit(2, f"{problem}\n")
    if facts:
        test = facts["accuracy"]["test"]
        print(f"{config.place / facts['name']}.safetensors: {100 * test['top1']:.2f} % of {test['n']:,} test pictures")


if __name__ == "__main__":
    main()
