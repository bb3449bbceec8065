"""A curation of a program that is connected to a Ray cluster of its own."""

from pathlib import Path

import ray

from pipeline.api import shardmill
from tests.distributed.conftest import Machines


def test_a_program_runs_a_curation_on_its_own_cluster_and_stays_connected(
    machines: Machines, tmp_path: Path, sample_folder: Path,
) -> None:
    wishes = {"classes.k": None, "model.compile": False}   # packing would make each of the two start slower
    root = shardmill.curate("sample", sample_folder / "00008.tar", tmp_path / "root", workers=1, overrides=wishes)
    assert ray.is_initialized()
    assert root.ledger.read == 28
    assert root.status().state == "finished"
    alone = shardmill.curate("sample", sample_folder / "00008.tar", tmp_path / "alone", local=True, overrides=wishes)
    assert alone.samples().to_table().equals(root.samples().to_table())
