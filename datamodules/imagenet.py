"""ImageNet, streamed from the folders that torchvision unpacks."""

from typing import Any

from datamodules.streamed_folder import StreamedImageFolder, StreamedImages

_ARCHIVES = {"train": "ILSVRC2012_img_train.tar", "val": "ILSVRC2012_img_val.tar"}


class ImageNet(StreamedImageFolder):
    """ImageNet, ILSVRC 2012: 1.28 million training images of 1,000 classes.

    Its labeled validation images are the test images here, as papers report them; validation images are taken from the
    training images. Folders are those that `torchvision.datasets.ImageNet` makes of the archives: ``train/<wnid>`` and
    ``val/<wnid>``.

    Args:
        folder: The folder, below ``data_dir`` unless it is absolute.
        val_size: Validation images, a number or a share of the training images.
        settings: All other arguments of `StreamedImageFolder`.

    Raises:
        FileNotFoundError: When the folders are not there, with how to get them.
        ValueError: As `StreamedImageFolder` does.
    """

    test_folder = "val"

    def __init__(self, folder: str = "imagenet", val_size: int | float | None = 10_000, **settings: Any) -> None:
        super().__init__(folder, val_size=val_size, **settings)

    def make_sets(self) -> dict[str, StreamedImages]:
        self._check_unpacked()
        return super().make_sets()

    def fingerprint(self) -> str:
        self._check_unpacked()
        return super().fingerprint()

    def _check_unpacked(self) -> None:
        root = self.source.root
        for part, name in _ARCHIVES.items():
            archive = root / name
            if archive.is_dir():
                raise ValueError(f"{archive} is a folder, but the archive is meant. Rename it to {root / part}.")
            if (root / part).is_dir():
                continue
            how = f"torchvision.datasets.ImageNet({str(root)!r}, split={part!r}) unpacks it"
            raise FileNotFoundError(
                f"there is no folder {root / part}, but the archive {archive}. {how}."
                if archive.is_file()
                else f"there is no folder {root / part}. Put {name} and ILSVRC2012_devkit_t12.tar.gz from "
                f"https://image-net.org into {root}; {how}. Another folder is named with data_dir or TRICKSTACK_DATA."
            )
