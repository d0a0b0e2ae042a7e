"""JavaScript of users: what it can do, and what it cannot do to anybody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ams_grpc.transforms.worker import Worker


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


def text(data: str = "", **attributes: str) -> str:
    return json.dumps({"message": {"data": data, "attributes": attributes}, "metadata": {}})


def run(worker: Worker, body: str, *messages: str) -> list[Any]:
    """What came of each message, as [data, attributes]; the reason, as text, if nothing did."""
    return run_code(worker, f"function f(message, metadata) {{ {body} }}", *messages)


def run_code(worker: Worker, code: str, *messages: str) -> list[Any]:
    answers = worker.run("f", code, messages)
    return [reason if result is None else json.loads(result) for result, reason in answers]


# --- the contract -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body, expected",
    [
        ("return message", ["data", [["a", "1"]]]),
        ("return null", None),
        ("return {data: 'x'}", ["x", []]),
        ("return {data: 'x', attributes: {}}", ["x", []]),
        ("return {data: 'x', attributes: undefined}", ["x", []]),
        ("message.attributes.b = '2'; return message", ["data", [["a", "1"], ["b", "2"]]]),
        ("return {data: JSON.stringify(metadata)}", ["{}", []]),
        ("return {data: 'é€😀\\u0000'}", ["é€😀\0", []]),
        ("return {data: typeof require + typeof setTimeout + typeof fetch}", ["undefined" * 3, []]),
        ("return {data: typeof std + typeof os + typeof console}", ["undefined" * 3, []]),
    ],
)
def test_a_function_returns(worker: Worker, body: str, expected: Any) -> None:
    assert run(worker, body, text("data", a="1")) == [expected]


@pytest.mark.parametrize(
    "body, reason",
    [
        ("", "TypeError: it returned neither null nor an object"),
        ("return 'text'", "TypeError: it returned neither null nor an object"),
        ("return {}", "TypeError: it returned an object whose data is no string"),
        ("return {data: 5}", "TypeError: it returned an object whose data is no string"),
        (
            "return Promise.resolve(message)",
            "TypeError: it returned an object whose data is no string",
        ),
        (
            "return {data: '', attributes: []}",
            "TypeError: it returned attributes that are no object",
        ),
        (
            "return {data: '', attributes: null}",
            "TypeError: it returned attributes that are no object",
        ),
        (
            "return {data: '', attributes: {a: 1}}",
            "TypeError: it returned an attribute that is no string",
        ),
        ("throw new Error('my own\\nreason')", "Error: my own"),
        ("throw 'a text'", "a text"),
        ("return unknown", "ReferenceError: unknown is not defined"),
        ("return {get data() { throw new Error('got') }}", "Error: got"),
    ],
)
def test_anything_else_is_an_error(worker: Worker, body: str, reason: str) -> None:
    assert run(worker, body, text()) == [reason]


@pytest.mark.parametrize(
    "code, reason",
    [
        ("function f( {", "SyntaxError"),
        ("function g() {}", "TypeError: the code defines no function f"),
        ("const f = 5", "TypeError: the code defines no function f"),
        ("throw new Error('at once')", "Error: at once"),
        ("} function f() { return null", "SyntaxError"),
        ("import x from 'y'; function f() {}", "SyntaxError"),
        ("while (true) {}", "it runs for more than 500 ms"),
    ],
)
def test_code_that_does_not_work_is_found_out_without_a_message(
    worker: Worker, code: str, reason: str
) -> None:
    [answer] = run_code(worker, code)
    assert answer.startswith(reason)


@pytest.mark.parametrize(
    "code",
    [
        "function f() {}",
        "const f = () => null",
        "var f = async function () {}",
        "class f {} // end",
    ],
)
def test_code_that_defines_the_function_is_good(worker: Worker, code: str) -> None:
    assert run_code(worker, code) == []


# --- nothing stays ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "let n = 0; function f() { n++; return {data: String(n)} }",
        "function f() { n = typeof n === 'undefined' ? 1 : n + 1; return {data: String(n)} }",
        "function f() { f.n = (f.n || 0) + 1; return {data: String(f.n)} }",
        "const me = arguments.callee; me.n = (me.n || 0) + 1; function f() { return {data: String(me.n || 1)} }",
        "function f() { try { Object.prototype.n = ({}.n || 0) + 1 } catch {} return {data: String({}.n || 1)} }",
        "function f() { try { Array.prototype.push = () => 9 } catch {} return {data: String([].push(1))} }",
        "function f() { Math.n = (Math.n || 0) + 1; return {data: String(Math.n || 1)} }",
        "function f() { globalThis.JSON = {}; return {data: String(JSON.parse('1'))} }",
        "function f() { const p = Object.getPrototypeOf(function* () {}); p.n = 2; return {data: String(p.n || 1)} }",
        "function f() { try { RegExp.prototype.exec = () => null } catch {} return {data: String(/1/.exec('1'))} }",
    ],
)
def test_a_function_finds_nothing_of_the_message_before(worker: Worker, code: str) -> None:
    assert run_code(worker, code, text(), text(), text()) == [["1", []]] * 3


STACK = "Error.prepareStackTrace = (error, sites) => sites; const sites = new Error().stack"


@pytest.mark.parametrize(
    "body",
    [
        "Error.stackTraceLimit = (Error.stackTraceLimit || 0) + 1; return {data: 'x' + Error.stackTraceLimit}",
        "const known = typeof Error.prepareStackTrace; Error.prepareStackTrace = () => 1; return {data: known}",
        f"{STACK}; const g = sites.at(-1).getFunction(); g.n = (g.n || 0) + 1; return {{data: 'x' + g.n}}",
        f"{STACK}; const p = Object.getPrototypeOf(sites[0]); p.n = (p.n || 0) + 1; return {{data: 'x' + p.n}}",
        "const g = Object.getOwnPropertyDescriptor(Object.prototype, 'toString').get; g.n = (g.n || 0) + 1; return {data: 'x' + g.n}",
        "const g = Object.getOwnPropertyDescriptor(Array.prototype, 'push').set; g.n = (g.n || 0) + 1; return {data: 'x' + g.n}",
        "const d = Object.getOwnPropertyDescriptor(Error.prototype, 'stack'); try { d.set.call(Math, 'kept') } catch {} return {data: 'x' + Math.stack}",
        "const tag = (s) => s; const s = tag`x`; try { s.n = (s.n || 0) + 1 } catch {} return {data: 'x' + s.n}",
        "Promise.resolve().then(() => { globalThis.n = 1 }); return {data: 'x' + globalThis.n}",
    ],
)
def test_a_function_finds_no_hidden_place_to_keep_anything(worker: Worker, body: str) -> None:
    """Whatever it gets, it gets the same each time."""
    first, *others = run(worker, body, text(), text(), text())

    assert others == [first] * 2


def test_all_that_a_function_can_reach_is_frozen(worker: Worker) -> None:
    """Except for the global object, which is tidied up, and for what was made for this message."""
    body = """
        const found = new Set([globalThis]), unfrozen = [];
        const queue = Reflect.ownKeys(globalThis).map((key) => [globalThis[key], String(key)]);
        while (queue.length > 0) {
            const [each, path] = queue.pop();
            if (each === null || (typeof each !== "object" && typeof each !== "function")) continue;
            if (found.has(each)) continue;
            found.add(each);
            if (!Object.isFrozen(each)) unfrozen.push(path);
            queue.push([Object.getPrototypeOf(each), path + ".__proto__"]);
            for (const key of Reflect.ownKeys(each)) {
                const { value, get, set } = Object.getOwnPropertyDescriptor(each, key);
                const deeper = path + "." + String(key);
                queue.push([value, deeper], [get, deeper + " get"], [set, deeper + " set"]);
            }
        }
        return {data: found.size > 500 ? unfrozen.join() : "it did not look around"};
    """
    assert run(worker, body, text()) == [["", []]]


COUNTER = "let c = 0; (function () { function f() { c++; return {data: String(c)} }"
ESCAPES = {
    "the function is closed": f"}}); {COUNTER}",
    "the call is closed": f"}}, 0); {COUNTER}",
    "a list": f"}}, (() => {{ {COUNTER.replace('(function () {', 'return (function () {')}",
    "a comment": f"/* */ }}); /* */ {COUNTER}",
    "a comment at the end": f"}}); {COUNTER} //",
    "an HTML-like comment": f"}}); <!-- \n {COUNTER} <!-- ",
    "an HTML-like comment that ends": f"\n--> x\n}}); {COUNTER}",
    "a template literal": f"`${{0}}`}}); {COUNTER}; `${{0}}`",
    "a label": f"x: }}); {COUNTER}; x: {{}}",
    "arguments": f"arguments; }}); {COUNTER}; arguments",
    "a return before": f"return f; }}); {COUNTER}",
    "a function of the same text": (
        "}); if (!globalThis.n) { globalThis.n = 1 } (function anonymous(\n) {\n function f() {}"
    ),
    "a class": "}); let c = 0; (class { static f() {} static {} static m() {",
    "nothing but a value": "}); (function () { return function () {} })(function () {",
    "a line separator": f"//\u2028}}); {COUNTER}",
}


@pytest.mark.parametrize("code", ESCAPES.values(), ids=ESCAPES)
def test_code_cannot_leave_the_function_that_it_runs_in(worker: Worker, code: str) -> None:
    """Outside of it, things would last."""
    [answer] = run_code(worker, code)

    assert answer.startswith("SyntaxError")


@pytest.mark.parametrize(
    "code",
    [
        "/* a */ function f() { return {data: '1'} } /* b */ // c",
        "function f() { return {data: '1'} } <!-- c",
        "--> c\nfunction f() { return {data: '1'} }",
        "const s = `}); ${'}'} (function () {`; function f() { return {data: '1'} }",
        "const s = '}); (function () {'; function f() { return {data: '1'} }",
        "const s = /\\}\\);/; function f() { return {data: '1'} }",
        "x: { break x } function f() { return {data: '1'} }",
        "return function f() { return {data: '1'} }",
        "var arguments = 1; let JSON = {}; function f() { return {data: '1'} }",
        "\ufefffunction f() {\r\n return {data: '1'}\u2028 }\r\n",
        "function f() { return {data: 'é€😀'.length === 4 ? '1' : '0'} } // é€😀",
    ],
)
def test_code_may_be_written_in_any_way(worker: Worker, code: str) -> None:
    assert run_code(worker, code, text(), text()) == [["1", []]] * 2


def test_what_is_built_in_is_frozen_and_yet_can_be_overridden_in_objects(worker: Worker) -> None:
    code = """
        "use strict";
        class Mine extends Error {
            constructor(text) { super(text); this.name = "Mine"; this.message = text + "!"; }
        }
        function f(message) {
            const given = {};
            given.toString = () => "own";
            given.constructor = 5;
            return {data: `${new Mine("text")} ${given} ${given.constructor}`};
        }
    """
    assert run_code(worker, code, text()) == [["Mine: text! own 5", []]]


# --- nobody else is hurt ----------------------------------------------------------------------------

HOSTILE = {
    "an endless loop": "while (true) {}",
    "an endless loop that catches": "while (true) try { while (true) {} } catch {}",
    "a regular expression": "while (true) /(a+)+b/.test('a'.repeat(40))",
    "memory": "const a = []; while (true) a.push('x'.repeat(1e5))",
    "many objects": "const a = []; while (true) a.push([{}])",
    "recursion": "return f(message) + 1",
    "recursion that catches": "function g() { try { g() } catch { g() } } while (true) g()",
    "a huge string": "return {data: 'x'.repeat(2 ** 29)}",
    "a huge number": "let n = 3n; while (true) n = n * n",
    "a built-in function": "return {data: String('a'.repeat(4e5).indexOf('a'.repeat(2e5) + 'b'))}",
    "a lock": "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)",
    "the global object": "Object.setPrototypeOf(globalThis, null); return {data: ''}",
    "the global object's properties": (
        "Object.defineProperty(globalThis, 'n', {value: 1}); return {data: ''}"
    ),
    "a proxy": "return new Proxy({}, {get() { while (true) {} }})",
    "attributes": ("const a = {}; for (let i = 0; ; i++) a[i] = 'x'.repeat(1e4);"),
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_function_fails_and_the_next_one_works(worker: Worker, body: str) -> None:
    [answer, *_] = run(worker, body, text("a"))
    assert isinstance(answer, str)

    assert run(worker, "return message", text("a"), text("b")) == [["a", []], ["b", []]]


def test_a_function_has_its_time_for_each_message(worker: Worker) -> None:
    """Not for all of them together."""
    body = "const end = Date.now() + 60; while (Date.now() < end) {} return message"

    results: list[Any] = []
    while len(results) < 12:
        results += run(worker, body, *[text(str(i)) for i in range(len(results), 12)])

    assert results == [[str(i), []] for i in range(12)]


def test_a_job_ends_when_its_turn_is_over_with_what_it_has(worker: Worker) -> None:
    body = "const end = Date.now() + 60; while (Date.now() < end) {} return message"

    results = run(worker, body, *[text()] * 100)

    assert 1 <= len(results) < 100


def test_a_job_ends_when_enough_came_of_it(worker: Worker) -> None:
    results = run(worker, "return {data: 'x'.repeat(9e6)}", *[text()] * 10)

    assert 1 <= len(results) <= 2


def test_the_answers_before_the_engine_broke_are_not_lost(worker: Worker) -> None:
    body = (
        "return message.data === 'bad' ? 'a'.repeat(4e5).indexOf('a'.repeat(2e5) + 'b') : message"
    )

    results = run(worker, body, text("a"), text("b"), text("bad"), text("c"))

    assert results == [["a", []], ["b", []], "it runs for too long, or has broken its engine"]


def test_a_process_that_was_killed_is_started_again(worker: Worker) -> None:
    run(worker, "return message", text("a"))
    worker.kill()

    while run(worker, "return message", text("a")) != [["a", []]]:
        pass  # it may notice in the middle of the first job


def test_the_process_has_neither_environment_nor_files(worker: Worker) -> None:
    run(worker, "return message", text("a"))
    assert worker._process is not None
    process = Path(f"/proc/{worker._process.pid}")
    if not process.exists():
        pytest.skip("no /proc")

    assert (process / "environ").read_bytes() == b""
    assert sorted(entry.name for entry in (process / "fd").iterdir()) == ["0", "1", "2"]


def test_the_process_has_bounds(worker: Worker) -> None:
    run(worker, "return message", text("a"))
    assert worker._process is not None
    limits = Path(f"/proc/{worker._process.pid}/limits")
    if not limits.exists():
        pytest.skip("no /proc")

    [line] = [line for line in limits.read_text().splitlines() if "address space" in line]
    assert line.split()[3:5] == [str(512 << 20)] * 2


def test_the_longest_message_fits_however_it_is_written(worker: Worker) -> None:
    """In JSON a control character is six times as long."""
    [[data, _]] = run(worker, "return message", text("\0" * 9_900_000))

    assert data == "\0" * 9_900_000


def test_without_memory_for_an_error_the_reason_is_memory(worker: Worker) -> None:
    body = "return {data: message.data.split('').reverse().join('')}"

    assert run(worker, body, text("\0" * 9_900_000)) == ["it needs too much memory"]
    assert run(worker, "return message", text("a")) == [["a", []]]


def test_the_process_ends_with_its_service() -> None:
    worker = Worker()
    worker.run("f", "function f() {}", ())
    assert worker._process is not None
    process = worker._process

    assert process.stdin is not None
    process.stdin.close()

    assert process.wait(10) == 0
    worker.close()
