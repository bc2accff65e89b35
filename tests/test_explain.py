"""`gossamer explain`: what it says of a layer is true, and what it writes is safe to open."""

from __future__ import annotations

import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import jit.pipeline
from bench.shape import layer_graph, layer_shape
from gossamer.cli import explain as verb
from gossamer.cli import main
from gossamer.explain import (
    ExplainError,
    Explanation,
    Verdict,
    assembly,
    compare,
    dump,
    explain,
    find_layer,
    first_wrong,
    page,
    plans_for,
    saved_plan,
    terminal,
    tour,
    verdicts,
    wording,
)
from jit.decide import plan
from jit.llvm import emit_assembly, emit_ir
from jit.llvm_origin import emit_annotated, origins, with_locations
from jit.pipeline import lower
from jit.plan_file import save_plan
from jit.program import Load, Program, Store, call, map_loads, map_stores, map_values
from jit.session import DeviceError
from jit.target import target
from refimpl.graph import Graph, Node
from refimpl.schemes import KGS, Dense

SMALL = "conv2d:11x4x3x3@3x5"
TARGETS = ["x86-64-sse", "x86-64-avx2", "x86-64-avx512", "cortex-a53", "cortex-a76", "neoverse-v1"]


def graph(text: str = SMALL, name: str = "net") -> Graph:
    made = layer_graph(layer_shape(text), KGS(4, 4), 0.4)
    return replace(made, name=name)


@pytest.fixture(scope="module")
def arm() -> Explanation:
    return explain(plan(graph(), "cortex-a76"))


@pytest.fixture(scope="module")
def shown(arm: Explanation) -> dict[str, list[Verdict]]:
    return {"cortex-a76": list(verdicts(arm.small, "y"))}


# -- origins -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TARGETS)
def test_every_instruction_of_ir_says_which_line_it_came_from(name: str) -> None:
    e = explain(plan(graph(), name))
    annotated = emit_annotated(e.trace.program, e.target)
    assert re.sub(r"  ; \d+$", "", annotated, flags=re.M) == emit_ir([e.trace.program], e.target)
    text = str(e.trace.program).splitlines()
    for line, origin in zip(annotated.splitlines(), origins(annotated), strict=True):
        if line.startswith("  ") and not line.startswith("  ret"):
            assert 1 < origin <= len(text), line
        if "llvm.fma" in line and "= call" in line:
            assert " = fma(" in text[origin - 1]
        if re.search(r"store .*ptr", line):
            assert re.match(r" *y\[", text[origin - 1])
        if " load i64, ptr" in line:
            assert re.search(r": param\(|in parallel\(", text[origin - 1])


@pytest.mark.parametrize("name", TARGETS)
def test_debug_information_moves_nothing_behind_the_entry(name: str) -> None:
    e = explain(plan(graph("conv3d:40x20x3x3x3@4x7x9"), name))
    symbol, annotated = e.trace.program.name, e.annotated
    plain = assembly.function_lines(emit_assembly(e.ir, e.target), symbol)
    located = assembly.function_lines(emit_assembly(with_locations(annotated), e.target), symbol)
    texts = [[line.text for line in lines] for lines in (plain, located)]
    entry = next(i for i, text in enumerate(texts[0]) if text.startswith(".LBB"))
    assert sorted(texts[0][:entry]) == sorted(texts[1][:entry])
    assert texts[0][entry:] == texts[1][entry:]
    linked = assembly.linked(plain, located)
    assert [line.text for line in linked] == texts[0]
    inside = linked[e.loop.start + 1 : e.loop.stop]
    assert all(line.ir for line in inside if not line.is_label)


def test_an_if_in_a_program_keeps_the_numbers_of_what_follows() -> None:
    e = explain(plan(graph(), "x86-64-avx2"))
    text = str(e.trace.program).splitlines()
    assert any(line.strip() == "else:" for line in text)
    loop_line = next(i for i, line in enumerate(text, 1) if " for j in " in line)
    of_phis = {
        o
        for line, o in zip(e.annotated.splitlines(), origins(e.annotated), strict=True)
        if "phi <" in line
    }
    assert loop_line in of_phis


# -- assembly ----------------------------------------------------------------------------------

ARM = """k:
\tsub\tsp, sp, #16
\t.p2align 4
.LBB0_1:
\tadd\tx9, x9, #1
.LBB0_2:
\t.loc\t1 45 0
\tldp\tq1, q2, [x3], #32
\tldr\tq3, [sp, #16]
\tfmla\tv0.4s, v1.4s, v3.s[0]
\tfmla\tv0.4s, v2.4s, v3.s[1]
\tstr\tq0, [x4]
\tcmp\tx1, x2
\tb.lt\t.LBB0_2
\tcbnz\tx9, .LBB0_1
\tret
.Lfunc_end0:
"""
X86 = """k:
.LBB0_1:
\tmovq\t-8(%rsp), %rax
\tleaq\t(%rax,%rbx), %rcx
\tmulps\t(%rcx), %xmm0
\tmovups\t%xmm0, 16(%rcx)
\taddq\t$4, 8(%rsp)
\tcmpq\t%rcx, (%rdi)
\tjl\t.LBB0_1
\tretq
.Lfunc_end0:
"""


def test_the_inner_loop_is_the_innermost_that_multiplies() -> None:
    lines = assembly.function_lines(ARM, "k")
    loop = assembly.inner_loop(lines)
    assert lines[loop.start].text == ".LBB0_2:"
    assert lines[loop.stop - 1].text == "b.lt\t.LBB0_2"
    assert lines[loop.start + 1].ir == 45
    counts = assembly.count(lines[loop.start : loop.stop])
    assert counts == assembly.Counts(7, 2, loads=2, stores=1, stack=1)


def test_memory_operands_of_x86_are_loads_and_stores() -> None:
    lines = assembly.function_lines(X86, "k")
    loop = assembly.inner_loop(lines)
    counts = assembly.count(lines[loop.start : loop.stop])
    # addq to memory reads as well as writes, but the address of leaq is not an access.
    assert counts == assembly.Counts(7, 1, loads=4, stores=2, stack=2)


def test_code_without_a_loop_or_a_function_is_named() -> None:
    with pytest.raises(assembly.AssemblyError, match="no loop of k"):
        assembly.inner_loop(assembly.function_lines("k:\n\tret\n", "k"))
    with pytest.raises(assembly.AssemblyError, match="no function g"):
        assembly.function_lines(ARM, "g")


@pytest.mark.parametrize("name", TARGETS)
def test_the_inner_loop_does_the_tile_once_per_column(name: str) -> None:
    e = explain(plan(layer_graph(layer_shape("conv2d:64x64x3x3@20x28"), Dense(), 1.0), name))
    k = e.kernel
    per_column = e.loop_counts.multiply_adds / e.columns_per_iteration
    assert per_column == k.rows // k.lanes * k.tile[0] * k.tile[1]


# -- the value ---------------------------------------------------------------------------------


def test_without_a_name_the_heaviest_pruned_layer_is_taken() -> None:
    made = graph()
    dense = Node(("z",), "conv", ("y", "head"), made.nodes[0].attributes)
    weight = made.constants["weight"].array
    head = replace(made.constants["weight"], array=weight.repeat(11, 1)[:, :11] + 1)
    two = replace(
        made, nodes=(*made.nodes, dense), outputs=("z",), constants={**made.constants, "head": head}
    )
    planned = plan(two, "cortex-a76")
    assert find_layer(planned).name == "y"
    assert find_layer(planned, "z").name == "z"
    with pytest.raises(ExplainError, match=r"no convolution or linear layer 'q'; it has y, z"):
        find_layer(planned, "q")


def test_parts_cover_the_layer(arm: Explanation) -> None:
    assert sum(part.share for part in arm.parts) == pytest.approx(1)
    assert arm.parts[0].share == max(part.share for part in arm.parts)
    assert arm.step.kept_macs <= arm.stored_macs


def test_a_comparison_holds_both_texts() -> None:
    before, after = "a\nb\nc", "a\nB\nc\nd"
    delta = compare(before, after)
    assert "\n".join(c.text for c in delta if c.mark in " -") == before
    assert "\n".join(c.text for c in delta if c.mark in " +") == after


def test_a_linear_layer_is_explained_too() -> None:
    e = explain(plan(graph("linear:37x50"), "cortex-a76"))
    assert all(v.agrees for v in verdicts(e.small, "y"))


# -- meaning -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["host", "x86-64-sse", "cortex-a76"])
def test_every_stage_and_the_code_agree(name: str) -> None:
    e = explain(plan(graph(), name))
    found = list(verdicts(e.small, "y", compiled=True))
    assert [v.stage for v in found] == [*(s.name for s in e.trace.entries), "compiled"]
    assert all(v.agrees for v in found if v.was_run)
    assert first_wrong(found) is None


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch):
    """Replace a stage of the pipeline by one that makes a mistake."""

    def plant(stage: str, mistake) -> None:
        right = getattr(jit.pipeline, stage)
        monkeypatch.setattr(jit.pipeline, stage, lambda *args: mistake(right(*args)))
        lower.cache_clear()

    yield plant
    monkeypatch.undo()
    lower.cache_clear()


def _doubles_the_sum(program: Program) -> Program:
    def change(store: Store) -> Store:
        is_sum = store.buffer == "acc" and "fma" in str(store.value)
        return replace(store, value=call("add", store.value, store.value)) if is_sum else store

    return replace(program, body=map_stores(program.body, change))


def _reads_past_the_bias(program: Program) -> Program:
    def shift(load: Load) -> Load:
        far = tuple(i + 1000 for i in load.subscript)
        return replace(load, subscript=far) if load.buffer == "bias" else load

    return replace(program, body=map_values(program.body, lambda v: map_loads(v, shift)))


@pytest.mark.parametrize(
    ("stage", "mistake"),
    [
        ("promote", _doubles_the_sum),
        ("reuse", _doubles_the_sum),
        ("address", _doubles_the_sum),
        ("compact", _reads_past_the_bias),
    ],
)
def test_bisect_names_the_stage_that_is_wrong(stage: str, mistake, planted) -> None:
    planted(stage, mistake)
    e = explain(plan(graph(), "x86-64-avx2"))
    found = list(verdicts(e.small, "y"))
    wrong = first_wrong(found)
    assert wrong is not None
    assert wrong.stage == stage
    assert not found[-1].agrees
    if stage == "compact":
        assert "axis 0 has extent" in str(wrong)


def _stores_far_away(program: Program) -> Program:
    def move(store: Store) -> Store:
        far = (store.subscript[0] + 2**40,)
        return replace(store, subscript=far) if store.buffer == "y" else store

    convolves = "conv" in program.name
    return replace(program, body=map_stores(program.body, move)) if convolves else program


def test_code_that_crashes_is_wrong_not_merely_not_run(planted) -> None:
    planted("parallel", _stores_far_away)
    e = explain(plan(graph(), "x86-64-sse"))
    found = list(verdicts(e.small, "y", compiled=True))
    wrong = first_wrong(found)
    assert wrong is not None
    assert wrong.stage == "parallel"
    assert found[-1].was_run
    assert "SIG" in str(found[-1])


def test_what_no_device_runs_is_said_and_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise DeviceError(f"{name} is not installed")

    monkeypatch.setattr("gossamer.explain.meaning.open_device", absent)
    e = explain(plan(graph(), "cortex-a76"))
    *_, last = verdicts(e.small, "y", compiled=True)
    assert str(last) == "not run: qemu:cortex-a76 is not installed"
    assert first_wrong([last]) is None


def test_the_verb_fails_when_a_stage_is_wrong(planted, capsys) -> None:
    planted("reuse", _doubles_the_sum)
    code = verb.explain(layer=SMALL, target=["x86-64-avx2"], bisect=True)
    assert code == 1
    assert "the first wrong stage is reuse" in " ".join(capsys.readouterr().err.split())


# -- views -------------------------------------------------------------------------------------


def printed(show, *args) -> str:
    text = io.StringIO()
    show(Console(width=100, file=text), *args)
    return text.getvalue()


def test_the_summary_fits_a_hundred_columns(arm: Explanation, shown) -> None:
    found = [arm, explain(plan(graph(), "x86-64-avx512"))]
    text = printed(terminal.show_summary, found, shown)
    assert max(map(len, text.splitlines())) <= 100
    for word in ("strips of", "reuse", "agrees to", "fmla", "vfmadd231ps", "spills"):
        assert word in text


def test_what_targets_share_is_shown_once(arm: Explanation) -> None:
    found = [arm, explain(plan(graph(), "cortex-a78"))]
    assert len(wording.same(found, "reuse")) == 1
    text = printed(terminal.show_stage, found, "reuse")
    assert text.count("def f32_conv2d") == 1
    assert "cortex-a76, cortex-a78" in text


def test_views_of_stages(arm: Explanation) -> None:
    assert str(arm.stage("tile").program) in printed(terminal.show_stage, [arm], "tile") + "\n"
    assert "+         acc = registers" in re.sub(
        " +acc", "         acc", printed(terminal.show_difference, [arm], "fuse", "promote")
    )
    assert "reuse for cortex-a76" in printed(terminal.show_changed, [arm])
    everything = printed(terminal.show_all, [arm])
    assert "define hidden" in everything
    assert "fmla" in everything
    with pytest.raises(ExplainError, match="the stages are naive, compact"):
        printed(terminal.show_stage, [arm], "nonsense")


def test_names_cannot_write_to_the_terminal() -> None:
    e = explain(plan(graph(name="a\x1b[2Jb[red]c"), "cortex-a76"))
    text = printed(terminal.show_summary, [e], {})
    assert "\x1b" not in text
    assert "b[red]c" in text


# -- files -------------------------------------------------------------------------------------


def test_a_dump_is_numbered_replaced_and_never_mixed(arm: Explanation, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    names = [path.name for path in dump([arm], {}, folder)]
    assert names[0] == "00_naive.txt"
    assert {"07_reuse.txt", "80_llvm_cortex-a76.ll", "90_asm_cortex-a76.s", "plan.txt"} < set(names)
    assert (folder / "02_tile.txt").read_text() == str(arm.stage("tile").program)
    assert json.loads((folder / "trace.json").read_text())["layer"] == "y"
    both = [arm, explain(plan(graph(), "x86-64-sse"))]
    assert "00_naive_cortex-a76.txt" not in names
    again = [path.name for path in dump(both, {}, folder)]
    assert "02_tile_x86-64-sse.txt" in again
    assert "02_tile.txt" not in again
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(ExplainError, match=r"holds thesis\.txt"):
        dump([arm], {}, folder)
    assert (folder / "thesis.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_page_is_self_contained_linked_and_escaped(shown) -> None:
    name = "<script>alert(1)</script>\"'&"
    found = [explain(plan(graph(name=name), t)) for t in ("cortex-a76", "x86-64-avx2")]
    text = page(found, shown)
    assert "alert(1)</script>" not in text
    assert text.count("<script>") == 1
    assert not re.search(r"https?:|src=|@import|url\(", text)
    for e in found:
        line = next(i for i, s in enumerate(str(e.trace.program).splitlines(), 1) if "fma(" in s)
        # In the loops, in the IR and in the assembly.
        rows = re.findall(rf'<li[^>]*data-line="{line}">(.*)</li>', text)
        assert sum("acc" in row for row in rows) >= 1
        assert sum("llvm.fma" in row for row in rows) >= 1
        assert sum(">fmla" in row or ">vfmadd" in row for row in rows) >= 1


def test_a_saved_plan_is_explained(tmp_path: Path, capsys) -> None:
    path = tmp_path / "net.safetensors"
    save_plan(plan(graph(), "x86-64-sse"), path)
    assert verb.explain(str(path), layer="y", stage="tile", target=["x86-64-sse"]) == 0
    assert "for owt in" in capsys.readouterr().out
    with pytest.raises(ExplainError, match="is planned for x86-64-sse, not for cortex-a76"):
        saved_plan(path, ["cortex-a76"])


def test_the_verb_writes_what_it_is_asked_for(tmp_path: Path, capsys) -> None:
    made = {"layer": SMALL, "scheme": "kgs:4x4", "keep": 0.4, "target": ["x86-64-sse"]}
    html, folder = tmp_path / "deep" / "layer.html", tmp_path / "dump"
    assert verb.explain(**made, html=html, dump_dir=folder, json=True) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["targets"][0]["verdicts"]["reuse"]["agrees"] is True
    assert html.read_text().startswith("<!doctype html>")
    assert (folder / "trace.json").exists()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("--layer conv2d:nonsense", "is not a layer"),
        (f"--layer {SMALL} --target pentium", "unknown target 'pentium'"),
        (f"--layer {SMALL} --scheme kgs:4x4 --keep 2", "the share to keep is 2.0"),
        (f"--layer {SMALL} --diff tile tale", "has no stage 'tale'"),
        (f"--layer {SMALL} --html /dev/full/x.html", "/dev/full"),
        (f"--layer {SMALL} --json --stage tile", "leave out --stage"),
        ("--scheme kgs:4x4", "need a --layer, such as conv2d:"),
        ("no/such.safetensors", "is not a file"),
        ("net.safetensors --keep 0.5", "net.safetensors has its own"),
    ],
)
def test_errors_are_sentences(asked: str, says: str, capsys) -> None:
    assert main(["explain", *asked.split()]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("gossamer: ")
    assert says in captured.err
    assert captured.out == ""


def test_with_nothing_given_a_pruned_layer_is_followed_to_neon_and_avx512(capsys) -> None:
    assert main(["explain", "--stage", "assembly"]) == 0
    shown = capsys.readouterr().out
    assert "fmla" in shown
    assert "zmm" in shown


def test_equal_targets_are_explained_once() -> None:
    plans = plans_for(SMALL, "dense", 1.0, ["cortex-a76", "cortex-a76", "host"])
    assert len(plans) == 2
    assert plans[1].target == target("host").name


def test_the_tour_in_the_documentation_is_what_the_code_says_now() -> None:
    committed = (Path(__file__).parent.parent / "docs" / "tour.md").read_text()
    version = f"LLVM {tour.llvm_version()} generates"
    made, wanted = tour.tour(), committed
    if version not in committed:  # another code generator: all but its assembly must be the same
        made, wanted = (text.partition("## 11.")[0] for text in (made, wanted))
    assert made == wanted, (
        f"run {Path(sys.executable).name} -m gossamer.explain.tour > docs/tour.md"
    )
