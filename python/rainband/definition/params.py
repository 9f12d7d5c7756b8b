"""``${VAR}`` in text, and secrets: the second step of loading.

Forms, in every text of a file, in quotes or not, after parsing (a value can never change the shape of the file):

    ${VAR}            the value; not set is an error
    ${VAR:-default}   the default if it is not set or empty
    ${VAR:?message}   the message as the error if it is not set or empty
    $$                a dollar sign; a '$' before anything but '{' and '$' is one too

A value is looked for in ``--param``, then in the environment. A text that is one ``${…}`` and nothing else may be
read as a number or bool later, where one is wanted (``Node.whole``).

In ``with:``, a text ``file:PATH`` is read from that file, relative to the topology's folder, without the newline at its
end; ``file://…`` is left alone, as a URL. Such values are secrets, and so are values of variables whose name says so
(``is_secret_name``); defaults are not, because they stand in the file. Secrets are never shown: see ``Masker``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rainband.definition.problem import Masker, Path, did_you_mean, quote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path as FilePath

    from rainband.definition.reader import Node, Source

MAX_SECRET_BYTES: Final = 64 * 1024

_FORM: Final = re.compile(r"\$\$|\$\{(?P<body>[^{}]*)\}|(?P<open>\$\{)")
_BODY: Final = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<sign>[-?])(?P<text>.*))?", re.DOTALL)
_SECRET_NAME: Final = re.compile(
    r"password|passwd|passphrase|secret|token|credential|(?:^|_)pass$|_pwd$"
    r"|(?:api|access|private|signing|encryption|master|account|auth)_?key",
    re.IGNORECASE,
)


def is_secret_name(name: str) -> bool:
    """Whether a variable or key of this name holds a secret: ``DB_PASSWORD``, ``api_key``, ``GITHUB_TOKEN``."""
    return _SECRET_NAME.search(name) is not None


class Params:
    """Values for ``${…}``, and what of them a file has used.

    Attributes:
        given: values of ``--param``.
        environ: the environment.
        masker: learns the secrets that are read.
        used: names that the file asks for, with whether it needs a value for them.
    """

    def __init__(self, given: Mapping[str, str], environ: Mapping[str, str], masker: Masker) -> None:
        self.given = given
        self.environ = environ
        self.masker = masker
        self.used: dict[str, bool] = {}

    def fill(self, source: Source, root: Node, folder: FilePath) -> None:
        """Replaces every ``${…}`` and ``file:`` reference below ``root`` in place, and notes what cannot be."""
        for path, node in root.scalars():
            if not isinstance(node.value, str):
                continue
            if "$" in node.value:
                self._fill_text(source, path, node)
            if node.value.startswith("file:") and "with" in path[2:3] and not node.value.startswith("file://"):
                self._read_file(source, path, node, folder)

    def value_of(self, name: str) -> str | None:
        """The value of a variable from ``--param`` or the environment."""
        value = self.given.get(name)
        if value is None:
            value = self.environ.get(name)
        if value is not None and is_secret_name(name):
            self.masker.add(value)
        return value

    def _fill_text(self, source: Source, path: Path, node: Node) -> None:
        text: str = node.value
        parts: list[str] = []
        end = 0
        for match in _FORM.finditer(text):
            parts.append(text[end : match.start()])
            end = match.end()
            if match["open"]:
                fix = 'write "}" behind the name, or "$${" for the text "${"; a default cannot hold braces'
                source.add(node, path, f'"${{" without its "}}" in {quote(text)}', fix=fix, code="variable")
                return
            parts.append("$" if match[0] == "$$" else self._expand(source, path, node, match["body"]))
        node.whole = end == len(text) and len(parts) == 2 and not parts[0] and text != "$$"
        node.value = "".join(parts) + text[end:]

    def _expand(self, source: Source, path: Path, node: Node, body: str) -> str:
        match = _BODY.fullmatch(body)
        if match is None:
            fix = "write ${VAR}, ${VAR:-default} or ${VAR:?message}; $$ is a dollar sign"
            source.add(node, path, f'"${{{body}}}" names no variable', fix=fix, code="variable")
            return ""
        name, sign, text = match["name"], match["sign"], match["text"]
        value = self.value_of(name)
        self.used[name] = self.used.get(name, False) or sign != "-"
        if value is not None and (value or sign is None):
            node.secret = node.secret or is_secret_name(name)
            return value
        if sign == "-":
            return text
        state = "not set" if value is None else "empty"
        what = f"the variable {name} is {state}" + (f": {text}" if text else "")
        fix = f"give it with --param {name}=…, in the environment, or a default: ${{{name}:-…}}"
        near = [word for word in self.given if word not in self.used]
        if near and "mean" in (guess := did_you_mean(name, near)):
            fix += f"; --param {guess.split(chr(34))[1]} is given but not used here"
        source.add(node, path, what, fix=fix, code="variable")
        return ""

    def _read_file(self, source: Source, path: Path, node: Node, folder: FilePath) -> None:
        name = node.value.removeprefix("file:")
        fix = "paths are relative to the folder of the topology file; a URL is written file:///…"
        node.secret = True
        try:
            data = (folder / name).read_bytes()[: MAX_SECRET_BYTES + 1]
            text = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, ValueError) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8 text"
            source.add(node, path, f"the file {quote(name)} cannot be read: {reason.lower()}", fix=fix, code="variable")
            return
        if len(data) > MAX_SECRET_BYTES:
            source.add(
                node,
                path,
                f"the file {quote(name)} is too large for a secret",
                expected="at most 64 KiB",
                code="variable",
            )
            return
        self.masker.add(text)
        node.value = text
