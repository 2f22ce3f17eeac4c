"""Published retrieval data sets, in the folders and with the names that they come with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.retrieval_file_names import read_person_and_camera
from datamodules.retrieval_files import IdentityFiles, RetrievalFiles, identity_files
from datamodules.retrieval_folder import RetrievalFolder, check_there, find_below

_JUNK = -1
_NAMED = 5  # names that a message holds


class Market1501(RetrievalFiles):
    """Persons seen by several cameras: 12,936 images of 751 to train on, 3,368 queries (Zheng et al., ICCV 2015).

    Folders are ``bounding_box_train``, ``query`` and ``bounding_box_test``, the gallery; names of files say person and
    camera. The gallery's person 0 are distractors, which are wrong for every query. Its junk, person -1, takes part in
    no ranking and is left out, which leaves 15,913 images. Images of the query's person from its own camera are told
    apart by their cameras, and whoever ranks leaves them out.

    Example::

        data = Market1501(image_size=(256, 128), val_size=0)

    All arguments are those of `RetrievalFiles`; an image is stretched to 256 x 128 if nothing else is said.
    """

    default_folder = "Market-1501-v15.09.15"
    default_size = (256, 128)

    def find_files(self) -> IdentityFiles:
        """Find the files.

        Raises:
            FileNotFoundError: If a folder is missing.
            ValueError: If file names do not parse; the first five are named.
        """
        folders = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
        parts = {part: find_below(self.root, folder) for part, folder in folders.items()}
        paths = [path for part in parts.values() for path in part]
        persons, cameras = (numbers.tolist() for numbers in read_person_and_camera(paths))
        names = {path: _person_name(person) for path, person in zip(paths, persons, strict=True)}
        junk = {path for path, person in zip(paths, persons, strict=True) if person == _JUNK}
        wanted = {part: [path for path in found if path not in junk] for part, found in parts.items()}
        return identity_files(self.root, wanted, names.__getitem__, dict(zip(paths, cameras, strict=True)))


class DukeMTMC(Market1501):
    """DukeMTMC-reID, with the folders and rules of Market-1501: 16,522 images of 702 persons, 2,228 queries.

    Its gallery has 408 persons whom no query shows, and no junk (Zheng et al. 2017, arXiv:1701.07717). All arguments
    are those of `RetrievalFiles`; an image is stretched to 256 x 128 if nothing else is said.
    """

    default_folder = "DukeMTMC-reID"


class CUB200(RetrievalFiles):
    """Birds of 200 species: the first 100 to train on, the others to search among (Wah et al. 2011).

    5,864 and 5,924 images in ``images``, a folder a species, whose name begins with its number. Each test image ranks
    all others, as in Oh Song et al. 2016, arXiv:1511.06452. All arguments are those of `RetrievalFiles`.
    """

    default_folder = "CUB_200_2011"
    default_size = 256
    trained_species = 100

    def find_files(self) -> IdentityFiles:
        """Find the files.

        Raises:
            FileNotFoundError: If there is no folder ``images``.
            ValueError: If folders' names do not begin with a number; the first five are named.
        """
        paths = find_below(self.root, "images")
        numbers = {name: name.partition(".")[0] for name in {Path(path).parent.name for path in paths}}
        wrong = sorted(name for name, number in numbers.items() if not number.isdecimal())
        if wrong:
            more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
            raise ValueError(
                f"{len(wrong)} of {len(numbers)} folders in {self.root / 'images'} have names without a species' "
                f"number: {', '.join(map(repr, wrong[:_NAMED]))}{more}. They should begin like 001.Black_footed."
            )
        trained = {name for name, number in numbers.items() if int(number) <= self.trained_species}
        train = [path for path in paths if Path(path).parent.name in trained]
        tested = [path for path in paths if Path(path).parent.name not in trained]
        return identity_files(
            self.root, {"train": train, "query": tested, "gallery": tested}, lambda path: Path(path).parent.name
        )


class StanfordOnlineProducts(RetrievalFiles):
    """Products: 59,551 images of 11,318 to train on, 60,502 of 11,316 others, each of which ranks all others.

    ``Ebay_train.txt`` and ``Ebay_test.txt`` say which image is of which product (Oh Song et al. 2016,
    arXiv:1511.06452). Many products have two images, so ``images_per_identity`` must be 2, or ``few_images``
    ``"repeat"``. At 256 x 256 all images are 24 GB; ``in_memory=False`` keeps none. All arguments are those of
    `RetrievalFiles`.
    """

    default_folder = "Stanford_Online_Products"
    default_size = 256

    def find_files(self) -> IdentityFiles:
        """Read which files there are.

        Raises:
            FileNotFoundError: If a list or files are missing.
            ValueError: If lines of a list do not parse; the first five are named.
        """
        train, test = (read_products(self.root, f"Ebay_{part}.txt") for part in ("train", "test"))
        products = train | test
        parts = {"train": list(train), "query": list(test), "gallery": list(test)}
        return identity_files(self.root, parts, products.__getitem__)


class Omniglot(RetrievalFolder):
    """Handwritten characters, each drawn by 20 people: train on some alphabets, search among others.

    A character is an identity (Lake et al., Science 2015). Alphabets are folders in the data set's or one deeper, so
    whatever parts of it are unpacked there are found; of several with a name that of the first part is taken.

    Example::

        data = Omniglot(train=["Korean", "Balinese"], test=["Sanskrit", "Tagalog"], image_size=32)

    Args:
        train: Alphabets that are trained on.
        test: Alphabets that are searched.
        folder: See `RetrievalFiles`.
        channels: See there.
        settings: As in `RetrievalFolder`.

    Raises:
        FileNotFoundError: If there is no such alphabet.
        ValueError: As `RetrievalFolder` says.
    """

    def __init__(
        self,
        train: Sequence[str],
        test: Sequence[str],
        folder: str = "omniglot",
        channels: Any = 1,
        **settings: Any,
    ) -> None:
        super().__init__(folder, train, test, channels=channels, **settings)

    def locate(self, name: str) -> str:
        alphabets = sorted(
            {path.parent.parent for pattern in ("*/*/*.*", "*/*/*/*.*") for path in self.root.glob(pattern)}
        )
        found = [alphabet for alphabet in alphabets if _is_called(alphabet.name, name)]
        if not found:
            there = f"there are {', '.join(alphabet.name for alphabet in alphabets)}" if alphabets else "there are none"
            raise FileNotFoundError(f"there is no alphabet {name!r} below {self.root}: {there}.")
        return found[0].relative_to(self.root).as_posix()


def _is_called(folder: str, name: str) -> bool:
    """Whether an alphabet's folder has a name: ``Japanese_(katakana)`` is called ``Katakana``, too."""
    return folder == name or folder.lower().endswith(f"_({name.lower()})")


def _person_name(person: int) -> str:
    return f"{person:04d}"


def read_products(root: Path, name: str) -> dict[str, str]:
    """Read the product of each image that a list of Stanford Online Products names.

    Args:
        root: The folder of the data set.
        name: Of the list, whose lines are ``image_id class_id super_class_id path``, after a first line that says so.

    Raises:
        FileNotFoundError: If the list or files are missing.
        ValueError: If lines do not parse.
    """
    if not (root / name).is_file():
        raise FileNotFoundError(
            f"there is no list {root / name}. Name another folder with data_dir or TRICKSTACK_DATA."
        )
    lines = (root / name).read_text(encoding="utf-8").splitlines()[1:]
    fields = [line.split() for line in lines if line.strip()]
    wrong = [" ".join(line) for line in fields if len(line) != 4 or not line[1].isdecimal()]
    if wrong or not fields:
        shown = ", ".join(map(repr, wrong[:_NAMED])) + (
            f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        )
        raise ValueError(
            f"{len(wrong)} of {len(fields)} lines of {root / name} are not 'image_id class_id super_class_id path': "
            f"{shown or 'there are none'}."
        )
    check_there(root, [line[3] for line in fields], f"of {root / name}")
    return {line[3]: f"{int(line[1]):05d}" for line in fields}
