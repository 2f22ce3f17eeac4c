"""Retrieval data sets in their published layouts, on small generated folders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import CUB200, DukeMTMC, Market1501, Omniglot, RetrievalFiles, StanfordOnlineProducts
from datamodules.retrieval import count_right
from lit_modules.metrics.retrieval import GroundTruth
from tests.datamodules.image_files import write_folder, write_image

PERSONS = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0002_c2s1_000776_01.jpg", "0007_c1s6_028546_01.jpg"],
    "query": ["0001_c1s1_001051_00.jpg", "0003_c3s1_001051_00.jpg"],
    "bounding_box_test": [
        "-1_c1s1_000401_03.jpg",
        "0000_c1s1_000151_01.jpg",
        "0001_c1s1_001051_03.jpg",
        "0001_c2s1_001051_03.jpg",
        "0003_c3s3_000001_00.jpg",
    ],
}
SMALL = {"identities_per_batch": 2, "images_per_identity": 1}


def write_persons(root: Path, files: dict[str, list[str]]) -> Path:
    for folder, names in files.items():
        for name in names:
            write_image(root / folder / name, np.full((8, 4, 3), len(name), dtype=np.uint8))
    return root


def set_up(kind: type[RetrievalFiles], root: Path, **arguments: Any) -> Any:
    data = kind(folder=str(root), **{**SMALL, "val_size": 0, "image_size": 4, **arguments})  # type: ignore[arg-type]
    data.setup()
    return data


def test_market_has_persons_cameras_distractors_and_no_junk(tmp_path: Path) -> None:
    data = set_up(Market1501, write_persons(tmp_path / "market", PERSONS), image_size=None)
    assert data.image_shape == (3, 256, 128)
    assert data.class_names == ("0002", "0007") and data.sets["train"].targets.tolist() == [0, 0, 1]
    identities, cameras, roles = data.sets["test"].targets.unbind(1)
    assert data.name_identities(identities.tolist()) == ("0000", *["0001"] * 3, *["0003"] * 2)
    assert cameras.tolist() == [1, 1, 2, 1, 3, 3]
    assert roles.tolist() == [2, 2, 2, 1, 2, 1]  # of a person the gallery's folder comes before the queries'


def test_a_person_seen_by_one_camera_is_no_query_that_is_scored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    set_up(Market1501, write_persons(tmp_path / "market", PERSONS))
    assert "1 of 2 test queries have no right image" in caplog.text


def test_duke_has_the_folders_of_market(tmp_path: Path) -> None:
    files = {
        "bounding_box_train": ["0005_c2_f0046985.jpg", "0009_c1_f0000001.jpg"],
        "query": ["0010_c1_f0000001.jpg"],
        "bounding_box_test": ["0010_c4_f0000001.jpg", "7139_c2_f0000001.jpg"],
    }
    data = set_up(DukeMTMC, write_persons(tmp_path / "duke", files))
    assert data.sets["test"].targets[:, 1].tolist() == [4, 1, 2]
    assert data.name_identities([3]) == ("7139",)


def test_wrong_persons_are_refused_before_training(tmp_path: Path) -> None:
    root = write_persons(tmp_path / "market", PERSONS)
    write_persons(root, {"query": ["0007_c4s1_001051_00.jpg"]})
    with pytest.raises(ValueError, match=r"Market1501: 1 identity is both in training .* and in the test: '0007'"):
        set_up(Market1501, root)
    write_persons(root, {"query": ["cat.jpg"]})
    with pytest.raises(ValueError, match=r"1 of 12 file names do not say .*'query/cat.jpg'"):
        set_up(Market1501, root)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*/none/bounding_box_train"):
        set_up(Market1501, tmp_path / "none")


def test_another_camera_in_a_files_name_is_another_data_set(tmp_path: Path) -> None:
    root = write_persons(tmp_path / "market", PERSONS)
    first = Market1501(folder=str(root), image_size=4, **SMALL).fingerprint()
    (root / "query" / "0003_c3s1_001051_00.jpg").rename(root / "query" / "0003_c5s1_001051_00.jpg")
    assert Market1501(folder=str(root), image_size=4, **SMALL).fingerprint() != first


def test_birds_are_trained_on_by_the_number_of_their_species(tmp_path: Path) -> None:
    species = {"099.A": 2, "100.B": 2, "101.C": 2, "200.D": 3}
    root = write_folder(tmp_path / "birds", {"images": species})
    data = set_up(CUB200, root)
    assert data.class_names == ("099.A", "100.B")
    identities, _, roles = data.sets["test"].targets.unbind(1)
    assert data.name_identities(identities.unique().tolist()) == ("101.C", "200.D") and (roles == 3).all()
    write_image(root / "images" / "Owl" / "1.png")
    with pytest.raises(ValueError, match=r"1 of 5 folders .* have names without a species' number: 'Owl'"):
        set_up(CUB200, root)


def write_products(root: Path, lists: dict[str, list[str]]) -> Path:
    for name, lines in lists.items():
        for line in lines:
            write_image(root / line.split()[-1], np.full((4, 4, 3), len(line), dtype=np.uint8))
        (root / name).write_text("\n".join(["image_id class_id super_class_id path", *lines]) + "\n")
    return root


def test_products_are_those_of_the_lists(tmp_path: Path) -> None:
    lists = {
        "Ebay_train.txt": ["1 1 1 bicycle/11_0.png", "2 1 1 bicycle/11_1.png", "3 10 1 bicycle/12_0.png"],
        "Ebay_test.txt": ["4 11319 2 chair/13_0.png", "5 11319 2 chair/13_1.png", "6 11320 2 chair/14_0.png"],
    }
    root = write_products(tmp_path / "products", lists)
    data = set_up(StanfordOnlineProducts, root, few_images="repeat")
    assert data.class_names == ("00001", "00010") and data.sets["train"].targets.tolist() == [0, 0, 1]
    assert data.sets["test"].targets[:, 2].tolist() == [3, 3, 3]
    (root / "chair" / "13_0.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 3 files of .*Ebay_test.txt are not there: chair/13_0.png"):
        set_up(StanfordOnlineProducts, root)
    write_products(root, {"Ebay_train.txt": ["1 one 1 bicycle/11_0.png"]})
    with pytest.raises(ValueError, match=r"1 of 1 lines of .*Ebay_train.txt are not .*'1 one 1 bicycle/11_0.png'"):
        set_up(StanfordOnlineProducts, root)
    (root / "Ebay_train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no list .*Ebay_train.txt"):
        set_up(StanfordOnlineProducts, root)


def test_alphabets_are_found_in_whatever_part_they_are(tmp_path: Path) -> None:
    counts = {"small1": {"Korean/character01": 2, "Korean/character02": 2, "Greek/character01": 2}}
    counts["small2"] = {"Japanese_(katakana)/character01": 3, "Greek/character01": 2}
    root = write_folder(tmp_path / "omniglot", counts)
    data = set_up(Omniglot, root, train=["Korean"], test=["Katakana", "Greek"])
    assert data.image_shape == (1, 4, 4)
    assert data.class_names == ("small1/Korean/character01", "small1/Korean/character02")
    tested = data.name_identities(data.sets["test"].targets[:, 0].unique().tolist())
    assert tested == ("small1/Greek/character01", "small2/Japanese_(katakana)/character01")
    with pytest.raises(FileNotFoundError, match=r"no alphabet 'Latin' .*there are Greek, Korean, Greek, Japanese"):
        set_up(Omniglot, root, train=["Latin"], test=["Greek"])


def test_right_entries_are_counted_as_ranking_judges_them() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.stack(
        [torch.randint(low, high, (60,), generator=generator) for low, high in [(0, 6), (-1, 3), (1, 4)]], 1
    )
    gallery = (targets[:, 2] & 2 > 0).nonzero().flatten()
    places = torch.full((60,), -1)
    places[gallery] = torch.arange(len(gallery))
    ranked = targets[gallery]
    truth = GroundTruth(targets[:, 0], ranked[:, 0], targets[:, 1], ranked[:, 1], places)
    assert torch.equal(count_right(targets), truth.judge(slice(None))[0].sum(1))
