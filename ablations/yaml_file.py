"""YAML as users write it: read safely, with every surprise of YAML 1.1 that would change a study silently removed."""

import re
from pathlib import Path
from typing import Any

import yaml

from ablations.errors import StudyError


class _Loader(yaml.SafeLoader):
    """The safe loader; `1e-3` is a number and a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_yaml(text: str) -> Any:
    """Return the data of a YAML text.

    Raises:
        yaml.YAMLError: the text is not YAML, or a key stands twice in one mapping.
    """
    return yaml.load(text, _Loader)  # a SafeLoader


def read_mapping(path: Path, what: str) -> dict[str, Any]:
    """Return the mapping that a YAML file holds; `what` names the kind of file in errors.

    Raises:
        StudyError: the file is missing, cannot be read, is not YAML, or holds something else than a mapping.
    """
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StudyError(f"{what} {path} cannot be read: {reason}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise StudyError(f"{what} {path} is not YAML: {problem}{where}.") from None
    except ValueError as error:  # a character that YAML does not allow, a number that is too long
        raise StudyError(f"{what} {path} is not YAML: {error}.") from None
    if not isinstance(data, dict):
        found = "nothing" if data is None else type(data).__name__
        raise StudyError(f"{what} {path} must hold a mapping of keys to values, not {found}.")
    return data


def dump_yaml(data: Any) -> str:
    """Return `data` as YAML, keys in their own order."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
