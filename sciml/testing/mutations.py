"""Small wrong changes to source text, one at a time: what a suite of tests has to notice.

Each change is of a kind that people make: an operator or a sign exchanged, a factor, an axis, a
mask, a reduction, a tolerance, a state that is not brought up to date. Texts that only speak
(docstrings, messages of errors, annotations) are left alone, for no test has to see them. So are
the looks of pictures (`LOOKS`: sizes of letters and lines, not what is drawn), the level of the
stack that a warning names, and floors such as 1e-300, which only keep a zero out of a quotient.

    for change in changes(Path("sciml/solvers/algebra/krylov.py")):
        print(change.line, change.kind, change.old, "->", change.new)
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KINDS = ("operator", "sign", "factor", "axis", "mask", "reduction", "tolerance", "stale", "bound")
_SWAPS = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}
_BOUNDS = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}
_REDUCTIONS = {"mean": "sum", "sum": "mean", "amax": "amin", "amin": "amax", "max": "min"}
_REDUCTIONS |= {"min": "max", "cumsum": "cumprod", "argmax": "argmin", "argmin": "argmax"}
_MASKS = {"any": "all", "all": "any", "triu": "tril", "tril": "triu"}
_UPDATES = ("copy_", "zero_", "add_", "mul_", "fill_", "lerp_", "addcmul_", "sub_", "div_")
# Where an axis stands among the arguments of what reduces or joins.
_AXES = {"sum": 0, "mean": 0, "amax": 0, "amin": 0, "any": 0, "all": 0, "cumsum": 0, "softmax": 0}
_AXES |= {"argmax": 0, "argmin": 0, "prod": 0, "flip": 0, "stack": 1, "cat": 1, "unbind": 0}
_DROPPED = ("detach", "clone")
FLOOR = 1e-100  # smaller numbers stand for zero
LOOKS = frozenset(
    """capsize dpi figsize fontsize height_ratios labelsize linewidth linewidths markersize
    shrink stacklevel width_ratios xytext zorder""".split()
)  # keywords of drawing and warning


@dataclass(frozen=True)
class Change:
    """One change to a file.

    Attributes:
        path: The file.
        line: Line of the change, from 1.
        function: First line of the function around it, decorators counted; 0 outside functions.
        kind: One of `KINDS`.
        old: Text that goes.
        new: Text that comes.
        start: Where `old` begins, in bytes of the file.
    """

    path: Path
    line: int
    function: int
    kind: str
    old: str
    new: str
    start: int

    def apply(self, source: bytes) -> bytes:
        """Return the changed content of the file.

        Raises:
            ValueError: If `source` is not what the change was made for.
        """
        end = self.start + len(self.old.encode())
        if source[self.start : end] != self.old.encode():
            raise ValueError(f"{self.path}:{self.line} does not hold {self.old!r} any more.")
        return source[: self.start] + self.new.encode() + source[end:]


def changes(path: Path) -> list[Change]:
    """Return every change of a file, in the order of its lines."""
    source = path.read_bytes()
    found = _Finder(path, source)
    found.visit(ast.parse(source))
    return sorted(set(found.found), key=lambda change: (change.start, change.kind, change.new))


class _Finder(ast.NodeVisitor):
    """Walks over a file and collects changes."""

    def __init__(self, path: Path, source: bytes) -> None:
        self.path, self.source, self.found = path, source, []
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.function = 0

    def at(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column

    def text(self, start: int, end: int) -> str:
        return self.source[start:end].decode()

    def span(self, node: ast.AST) -> tuple[int, int]:
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def add(self, kind: str, node: ast.AST, start: int, end: int, new: str) -> None:
        line = self.source.count(b"\n", 0, start) + 1
        old = self.text(start, end)
        if old != new:
            self.found.append(Change(self.path, line, self.function, kind, old, new, start))

    def between(self, left: ast.AST, right: ast.AST, kind: str, new: str) -> None:
        """Exchange the operator between two expressions."""
        start, end = self.span(left)[1], self.span(right)[0]
        gap = self.text(start, end)
        word = gap.strip("() \n\\\t")
        if word and "#" not in gap:
            place = start + gap.index(word)
            self.add(kind, left, place, place + len(word), new)

    # what is left alone

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, first = self.function, min([node.lineno, *(d.lineno for d in node.decorator_list)])
        if node.name in ("__repr__", "__str__"):
            return
        self.function = first
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self.function = outer

    def visit_Raise(self, node: ast.Raise) -> None:
        """Leave messages alone."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """Leave what holds anyway alone."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave texts alone."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Import(self, node: ast.Import) -> None:
        """Leave imports alone."""

    visit_ImportFrom = visit_Import

    # what is changed

    def visit_BinOp(self, node: ast.BinOp) -> None:
        kind = type(node.op)
        texts = (node.left, node.right)
        speaks = any(isinstance(t, ast.JoinedStr) or _is_text(t) for t in texts)
        if kind in _SWAPS and not speaks:
            self.between(node.left, node.right, "operator", _SWAPS[kind])
        elif kind in (ast.BitAnd, ast.BitOr):
            self.between(node.left, node.right, "mask", "|" if kind is ast.BitAnd else "&")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        start, end = self.span(node)
        inner = self.span(node.operand)[0]
        if isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
            self.add("sign", node, start, inner, "+" + self.text(start, inner)[1:])
        elif isinstance(node.op, ast.Invert):
            self.add("mask", node, start, inner, self.text(start, inner)[1:] or "")
        elif isinstance(node.op, ast.Not):
            self.add("mask", node, start, inner, self.text(start, inner)[3:].lstrip() or "")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        kind = type(node.ops[0])
        if kind in _BOUNDS and len(node.ops) == 1 and not _is_text(node.comparators[0]):
            self.between(node.left, node.comparators[0], "bound", _BOUNDS[kind])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        new = "or" if isinstance(node.op, ast.And) else "and"
        self.between(node.values[0], node.values[1], "mask", new)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.function:
            return
        start, end = self.span(node)
        if isinstance(value, float) and 0 < value < FLOOR:
            return
        if isinstance(value, float) and 0 < value < 1e-3:
            self.add("tolerance", node, start, end, repr(value * 1e3))
        elif isinstance(value, float) and value:
            self.add("factor", node, start, end, repr(2 * value))
        elif value in (2, 3, 4):
            self.add("factor", node, start, end, repr(value + 1))

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else None
        if name is not None:
            end = self.span(node.func)[1]
            start = end - len(name)
            if name in _REDUCTIONS:
                self.add("reduction", node, start, end, _REDUCTIONS[name])
            elif name in _MASKS:
                self.add("mask", node, start, end, _MASKS[name])
            elif name in _DROPPED and not node.args and not node.keywords:
                value = self.span(node.func.value)[1]
                self.add("stale", node, value, self.span(node)[1], "")
            if name == "where" and len(node.args) == 3:
                (a, b), (c, d) = self.span(node.args[1]), self.span(node.args[2])
                self.add("mask", node, a, d, self.text(c, d) + self.text(b, c) + self.text(a, b))
        axes = [keyword.value for keyword in node.keywords if keyword.arg in ("dim", "axis")]
        place = _AXES.get(name)
        if place is not None and len(node.args) > place:
            axes.append(node.args[place])
        for axis in axes:
            self._axis(axis)
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg not in LOOKS:
            self.generic_visit(node)

    def _axis(self, node: ast.expr) -> None:
        start, end = self.span(node)
        swaps = {"-1": "0", "1": "0", "0": "-1", "-2": "-1", "2": "1"}
        new = swaps.get(self.text(start, end))
        if new is not None:
            self.add("axis", node, start, end, new)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._leave_out(node)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        target = node.targets[0]
        if isinstance(target, ast.Subscript):
            self._leave_out(node)
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if _is_text(node.value):
            return
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            if call.func.attr in _UPDATES:
                self._leave_out(node)
        self.generic_visit(node)

    def _leave_out(self, node: ast.stmt) -> None:
        start, end = self.span(node)
        if self.function and node.lineno == node.end_lineno:
            self.add("stale", node, start, end, "pass")


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def rooms(package: Path, names: tuple[str, ...]) -> Iterator[tuple[str, list[Change]]]:
    """Yield each room of a package with the changes of its files."""
    for name in names:
        files = sorted((package / name).rglob("*.py"))
        yield name, [c for file in files if file.name != "__init__.py" for c in changes(file)]
