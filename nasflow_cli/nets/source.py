"""A network becomes one Python file that needs torch and safetensors alone, written to be read from top to bottom.

Every cell is straight-line code: no loop, no graph, nothing of nasflow. Refuses modules that cannot be constructed
from their attributes (see `constructors`) or whose classes cannot be copied (see `definitions`).
"""

from __future__ import annotations

import keyword
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from nasflow_cli import __version__
from nasflow_cli.core.graph import Block, Cell, Node
from nasflow_cli.nets.builder import CellModule, Network
from nasflow_cli.nets.constructors import LINE_LENGTH, Constructors, quoted
from nasflow_cli.nets.definitions import Definitions

_OWN_NAMES = ("Network", "load", "main", "CLASSES")
_RESERVED = {"head", "mean", "std"}
_BODY = " " * 8

_MODULE = '''\
"""{title}

Needs {needs}; made by nasflow {version}.
"""

from __future__ import annotations

{imports}

CLASSES = {classes}
{facts}


{definitions}class Network(nn.Module):
    """{about}"""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        # {origin}
        self.register_buffer("mean", torch.tensor({mean}).view({view}), persistent=False)
        self.register_buffer("std", torch.tensor({std}).view({view}), persistent=False)

{modules}

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = (x.float() - self.mean) / self.std{filled}

{forward}

        return self.head(x)


def load(weights: str | Path = "model.safetensors") -> Network:
    """The trained network in evaluation mode. A relative path starts beside this file."""
    network = Network()
    network.load_state_dict(load_file(Path(__file__).resolve().parent / weights))
    return network.eval()

{main}

if __name__ == "__main__":
    main(sys.argv[1:])
'''

_IMAGE_MAIN = '''
@torch.inference_mode()
def main(paths: list[str]) -> None:
    """Say which class each image file shows; without any, describe the network."""
    network = load()
    channels, height, width = INPUT_SHAPE
    if not paths:
        params = sum(parameter.numel() for parameter in network.parameters())
        logits = network(torch.zeros(1, *INPUT_SHAPE))
        print(f"{params:,} parameters, images {INPUT_SHAPE} to logits {tuple(logits.shape[1:])}")
        return
    from PIL import Image  # only needed here

    for path in paths:
        image = Image.open(path).convert("L" if channels == 1 else "RGB").resize((width, height))
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        pixels = pixels.view(1, height, width, channels).permute(0, 3, 1, 2)
        share, label = network(pixels).softmax(1).max(1)
        print(f"{path}: {CLASSES[int(label)]} ({float(share):.1%})")
'''

_VECTOR_MAIN = '''
def read_vectors(path: str) -> Tensor:
    """The rows of a CSV of numbers in the order of FEATURES, under a header that says so or none."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if rows and tuple(rows[0]) == FEATURES:
        del rows[0]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(FEATURES):
            sys.exit(f"{path}: row {number} has {len(row)} values; these {len(FEATURES)} are needed: {FEATURES}")
    try:
        values = [[float(value.strip() or "nan") for value in row] for row in rows]
    except ValueError as error:
        sys.exit(f"{path}: {error}; every value is a number, or empty where it is missing; a header is FEATURES")
    return torch.tensor(values).view(-1, len(FEATURES))


@torch.inference_mode()
def main(paths: list[str]) -> None:
    """Say which class each row of CSV files is of; without any, describe the network."""
    network = load()
    if not paths:
        params = sum(parameter.numel() for parameter in network.parameters())
        logits = network(torch.zeros(1, len(FEATURES)))
        print(f"{params:,} parameters, vectors of {len(FEATURES)} features to logits {tuple(logits.shape[1:])}")
        return
    for path in paths:
        shares, labels = network(read_vectors(path)).softmax(1).max(1)
        for number, (share, label) in enumerate(zip(shares.tolist(), labels.tolist()), start=1):
            print(f"{path}, row {number}: {CLASSES[label]} ({share:.1%})")
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFacts:
    """What a network takes. `shape` is (channels, height, width) of images or (features,) of vectors.

    `mean` and `std` are per channel, of 0..255, or per feature; `features` names those of vectors, in order.
    """

    shape: tuple[int, ...]
    mean: Sequence[float]
    std: Sequence[float]
    features: Sequence[str] = ()


def network_source(network: Network, inputs: InputFacts, classes: Sequence[str], title: str) -> str:
    """The file's text.

    Its `load()` reads a safetensors file whose names are the values of `state_names(network)`. Raises NasflowError
    that names the class when a module cannot be written as text.
    """
    definitions = _new_definitions(is_image=len(inputs.shape) == 3)
    constructors = Constructors(definitions)
    modules = [pair for names, cell in _cells(network) for pair in zip(names, cell.nodes, strict=True)]
    lines = [_assignment(constructors, name, module) for name, module in [*modules, ("head", network.head)]]
    copied = "".join(f"{text}\n\n\n" for text in definitions.definitions())
    return _MODULE.format(
        title=_docstring(title),
        needs=_listed(["torch", "safetensors", *sorted(definitions.packages)]),
        version=__version__,
        imports=definitions.import_lines(),
        classes=_strings("CLASSES", classes),
        definitions=copied,
        mean=_numbers(inputs.mean),
        std=_numbers(inputs.std),
        modules="\n".join(lines),
        forward="\n\n".join(_forward(network, "channels" if len(inputs.shape) == 3 else "features")),
        **(_image_parts if len(inputs.shape) == 3 else _vector_parts)(inputs, len(classes)),
    )


def _image_parts(inputs: InputFacts, num_classes: int) -> dict[str, str]:
    """What a file says about images."""
    channels, height, width = inputs.shape
    return {
        "facts": f"INPUT_SHAPE = {tuple(inputs.shape)}  # channels, height, width",
        "about": f"Images (n, {channels}, {height}, {width}), uint8 or float, of values 0..255, "
        f"to logits (n, {num_classes}).",
        "origin": "What the training images had a channel; part of the network, so that it takes raw pixels.",
        "view": "1, -1, 1, 1",
        "filled": "",
        "main": _IMAGE_MAIN,
    }


def _vector_parts(inputs: InputFacts, num_classes: int) -> dict[str, str]:
    """What a file says about vectors."""
    order = "# The numbers of a vector, in this order."
    if any("=" in name for name in inputs.features):
        order += ' "colour=red" is 1 where the column "colour" holds the text "red", else 0.'
    return {
        "facts": f"{order}\nFEATURES = {_strings('FEATURES', inputs.features)}",
        "about": f"Vectors (n, {len(inputs.features)}) of FEATURES as they are, NaN where missing, "
        f"to logits (n, {num_classes}).",
        "origin": "What the training data had a feature; part of the network, so that it takes raw numbers.",
        "view": "1, -1",
        "filled": f"\n{_BODY}x = x.masked_fill(x.isnan(), 0.0)  # what is missing counts as the mean",
        "main": _VECTOR_MAIN,
    }


def state_names(network: Network) -> dict[str, str]:
    """The name in the exported file of every entry of the network's state dict."""
    prefixes = {"head.": "head."}
    for position, (names, _) in enumerate(_cells(network)):
        prefixes.update({f"cells.{position}.nodes.{node}.": f"{name}." for node, name in enumerate(names)})
    result = {}
    for full in network.state_dict():
        prefix = re.match(r"head\.|cells\.\d+\.nodes\.\d+\.", full)
        if prefix is None:
            raise ValueError(f"the network holds {full!r}, which is in no cell and not in the head")
        result[full] = prefixes[prefix[0]] + full[prefix.end() :]
    return result


def _new_definitions(is_image: bool) -> Definitions:
    definitions = Definitions()
    definitions.reserve(*_OWN_NAMES, *(("INPUT_SHAPE",) if is_image else ("FEATURES", "read_vectors")))
    for module, name in (
        *(() if is_image else (("csv", None),)),
        ("sys", None),
        ("pathlib", "Path"),
        ("torch", None),
        ("safetensors.torch", "load_file"),
        ("torch", "Tensor"),
        ("torch", "nn"),
    ):
        definitions.require(module, name)
    return definitions


def _copies(network: Network) -> Iterator[tuple[Block, int, CellModule]]:
    """Every cell of the network with its block and the number of its copy, from 1."""
    cells = iter(network.cells)
    for block in network.graph.blocks:
        for copy in range(1, block.depth + 1):
            cell = next(cells)
            assert isinstance(cell, CellModule)  # noqa: S101
            yield block, copy, cell


def _cells(network: Network) -> Iterator[tuple[list[str], CellModule]]:
    """Every cell with the names that its nodes have in the file."""
    taken = set(_RESERVED)
    for block, copy, cell in _copies(network):
        base = re.sub(r"\W", "_", block.name.replace("stages.", "stage"), flags=re.ASCII)
        if not base.isidentifier() or keyword.iskeyword(base) or hasattr(nn.Module, base):
            base = f"block_{base}"
        base += f"_cell{copy}" if block.depth > 1 else ""
        names = []
        for node in range(1, len(cell.nodes) + 1):
            name = free = f"{base}_node{node}" if len(cell.nodes) > 1 else base
            again = 1
            while free in taken:
                again += 1
                free = f"{name}_{again}"
            taken.add(free)
            names.append(free)
        yield names, cell


def _assignment(constructors: Constructors, name: str, module: nn.Module) -> str:
    start = f"{_BODY}self.{name} = "
    return start + constructors.text(module, len(start), len(_BODY))


def _forward(network: Network, unit: str) -> Iterator[str]:
    """The lines of each cell, under a comment that says where it stands."""
    looks_back = any(_reads_before(block.cell) for block in network.graph.blocks)
    cells = zip(_copies(network), _cells(network), strict=True)
    for number, ((block, copy, cell), (names, _)) in enumerate(cells):
        if cell.cell.passes_on and not looks_back:
            if copy == 1:
                yield f"{_BODY}# {block.name}: passes its input on"
            continue
        where = f"{block.name}, copy {copy} of {block.depth}" if block.depth > 1 else block.name
        stride = cell.cell.out_stride((1, 1))
        coarser = f", stride {stride}" if stride != 1 and not looks_back else ""
        lines = [f"{_BODY}# {where}: {cell.cell.out_width(cell.in_widths)} {unit}{coarser}"]
        lines += _cell_lines(cell, names, "after" if looks_back and number else "x")
        if looks_back:
            lines.append(f"{_BODY}before, x = x, after" if number else f"{_BODY}before = x")
        yield "\n".join(lines)


def _reads_before(cell: Cell) -> bool:
    """Whether anything of the cell reads what the cell before the last one gave."""
    return cell.num_inputs > 1 and any(
        1 in values for values in (cell.output, cell.added, *(n.inputs for n in cell.nodes))
    )


def _cell_lines(cell_module: CellModule, names: Sequence[str], result: str) -> Iterator[str]:
    cell = cell_module.cell
    leaving = cell.output + cell.added
    only_last = bool(cell.nodes) and leaving == (cell.num_inputs + len(cell.nodes) - 1,)
    for number, (node, name) in enumerate(zip(cell.nodes, names, strict=True), start=1):
        target = result if only_last and number == len(cell.nodes) else f"node{number}"
        yield _sum(f"{_BODY}{target} = self.{name}(", _terms(cell_module, node.inputs, node), ")")
    if not leaving:
        yield f"{_BODY}{result} = x.mul(0.0)  # nothing leaves this cell"
    elif cell.join == "concat" and len(cell.output) > 1:
        yield from _concatenation(result, _terms(cell_module, cell.output), _terms(cell_module, cell.added))
    elif not only_last:
        yield _sum(f"{_BODY}{result} = ", _terms(cell_module, leaving), "")


def _terms(cell_module: CellModule, values: Sequence[int], reader: Node | None = None) -> list[str]:
    """The names of values in the file, cut where their reader is narrower."""
    cell = cell_module.cell
    widths = cell.widths(cell_module.in_widths)
    names = ["x", "before"][: cell.num_inputs]
    names += [f"node{number}" for number in range(1, len(cell.nodes) + 1)]
    wanted = cell.in_width(reader, widths) if reader is not None and cell.cut else None
    return [f"{names[v]}[:, :{wanted}]" if wanted is not None and widths[v] > wanted else names[v] for v in values]


def _concatenation(result: str, parts: Sequence[str], added: Sequence[str]) -> Iterator[str]:
    """A concatenation to which terms are added, in one statement where one line is enough."""
    listed = f"[{', '.join(parts)}]"
    line = f"{_BODY}{result} = {' + '.join([f'torch.cat({listed}, 1)', *added])}"
    if len(line) <= LINE_LENGTH:
        yield line
        return
    inner = f"{_BODY}    "
    if len(f"{inner}{listed},") > LINE_LENGTH:
        listed = "[\n" + "".join(f"{inner}    {part},\n" for part in parts) + f"{inner}]"
    short = f"{inner}{listed}, 1"
    inside = short if len(short) <= LINE_LENGTH else f"{inner}{listed},\n{inner}1,"
    name = "joined" if added else result
    alone = f"{_BODY}{name} = torch.cat([{', '.join(parts)}], 1)"
    yield alone if len(alone) <= LINE_LENGTH else f"{_BODY}{name} = torch.cat(\n{inside}\n{_BODY})"
    if added:
        yield _sum(f"{_BODY}{result} = ", [name, *added], "")


def _sum(start: str, terms: Sequence[str], end: str) -> str:
    """A statement over a sum from left to right, over several lines where one is too short."""
    line = f"{start}{' + '.join(terms)}{end}"
    if len(line) <= LINE_LENGTH:
        return line
    inside = f"{_BODY}    {' + '.join(terms)}"
    if len(inside) > LINE_LENGTH:
        inside = f"{_BODY}    " + f"\n{_BODY}    + ".join(terms)
    return f"{start if end else start + '('}\n{inside}\n{_BODY})"


def _strings(name: str, values: Sequence[str]) -> str:
    """A tuple of strings to stand behind a name, filled into lines."""
    texts = [quoted(value) for value in values]
    line = f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
    if len(f"{name} = {line}") <= LINE_LENGTH:
        return line
    return "(\n" + "".join(f"    {text},\n" for text in texts) + ")"


def _numbers(values: Sequence[float]) -> str:
    """A list of numbers inside a call of the constructor, filled into lines."""
    line = ", ".join(repr(float(value)) for value in values)
    if len(line) < LINE_LENGTH // 2:
        return f"[{line}]"
    inside = textwrap.indent(textwrap.fill(line, LINE_LENGTH - 16, break_on_hyphens=False), " " * 16)
    return f"[\n{inside}\n            ]"


def _docstring(title: str) -> str:
    """The title as a docstring's beginning, which nothing in it can end."""
    safe = title.replace("\\", "\\\\").replace('"""', '\\"\\"\\"').strip()
    return "\n".join(textwrap.wrap(safe, LINE_LENGTH - 3)) or "A network."


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
