"""Follow one request: its lines in the logs of edge and service, and its spans from wherever they are kept."""

from __future__ import annotations

DOCUMENTATION = r"""
module: seawall_trace
short_description: Log lines and spans of one request
options:
  project: {description: Name of the Compose project., type: str, required: true}
  id: {description: 'A request id, or a trace id as 32 hexadecimal digits or as a UUID.', type: str, required: true}
  backend:
    description: Where traces are kept.
    type: dict
    default: {}
    options:
      kind: {description: Whose API it speaks., type: str, choices: [none, tempo, jaeger, signoz], default: none}
      url: {description: 'Its address as the host reaches it, such as http://tempo:3200.', type: str, default: ''}
      headers: {description: 'Sent with each question, such as SIGNOZ-API-KEY.', type: dict, default: {}}
"""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import fetch_url

VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
TRACE_ID = re.compile(r"[0-9a-f]{32}")
LOGGED = re.compile(r"edge|(api|auth)-(blue|green)")
ID_FIELDS = ("request_id", "trace_id", "correlation_id")
# Already said by the line's beginning, or the same in every line.
LEFT_OUT = {"timestamp", "level", "event", "span_id", *ID_FIELDS}
PATHS = {"tempo": "/api/traces/{}", "jaeger": "/api/traces/{}", "signoz": "/api/v1/traces/{}"}
MILLION = 1_000_000


@dataclass(frozen=True)
class Line:
    service: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Span:
    """Times in nanoseconds, `start` since 1970."""

    ident: str
    parent: str
    service: str
    name: str
    start: int
    duration: int


def spellings(ident: str) -> set[str]:
    """A trace id is written with hyphens as a correlation id; a request without an id of the client has it for a request id."""
    compact = ident.lower().replace("-", "")
    if not TRACE_ID.fullmatch(compact):
        return {ident}
    hyphened = "-".join((compact[:8], compact[8:12], compact[12:16], compact[16:20], compact[20:]))
    return {ident, compact, hyphened}


def lines_in(service: str, output: str) -> list[Line]:
    """The JSON objects of a container's log; whatever else it holds belongs to no request."""
    found = []
    for text in output.splitlines():
        try:
            fields = json.loads(text)
        except ValueError:
            continue
        if isinstance(fields, dict):
            found.append(Line(service, fields))
    return found


def lines_of(ident: str, lines: Iterable[Line]) -> list[Line]:
    """Every line with the id, and with the ids that those lines carry: the edge knows no trace id, only the request's."""
    known, wanted = list(lines), spellings(ident)
    while True:
        chosen = [line for line in known if any(line.fields.get(field) in wanted for field in ID_FIELDS)]
        ids = {str(line.fields[field]) for line in chosen for field in ID_FIELDS if line.fields.get(field)}
        if ids <= wanted:
            return sorted(chosen, key=lambda line: str(line.fields.get("timestamp", "")))
        wanted |= ids


def trace_id_of(ident: str, lines: Iterable[Line]) -> str:
    """The trace to ask for: that of the lines, else the id itself where it can be one, else nothing."""
    for line in lines:
        if line.fields.get("trace_id"):
            return str(line.fields["trace_id"])
    compact = ident.lower().replace("-", "")
    return compact if TRACE_ID.fullmatch(compact) else ""


def line_text(line: Line) -> str:
    fields = line.fields
    rest = " ".join(f"{key}={json.dumps(fields[key])}" for key in fields if key not in LEFT_OUT and fields[key] is not None)
    return f"{fields.get('timestamp', '')} {line.service} {fields.get('level', '')} {fields.get('event', '')} {rest}".rstrip()


def attribute(attributes: Iterable[Mapping[str, Any]], key: str) -> str:
    return next((str(entry["value"].get("stringValue", "")) for entry in attributes if entry["key"] == key), "")


def tempo_spans(document: dict[str, Any]) -> list[Span]:
    """OTLP as JSON; `batches` until Tempo 2.6, then `trace.resourceSpans`."""
    batches = document.get("batches") or document.get("trace", document).get("resourceSpans", [])
    found = []
    for batch in batches:
        service = attribute(batch["resource"].get("attributes", []), "service.name")
        for scope in batch.get("scopeSpans", []):
            for span in scope["spans"]:
                start = int(span["startTimeUnixNano"])
                length = int(span["endTimeUnixNano"]) - start
                found.append(Span(span["spanId"], span.get("parentSpanId", ""), service, span["name"], start, length))
    return found


def jaeger_spans(document: dict[str, Any]) -> list[Span]:
    """Times in microseconds."""
    found = []
    for trace in document["data"]:
        for span in trace["spans"]:
            service = trace["processes"][span["processID"]]["serviceName"]
            parents = [entry["spanID"] for entry in span.get("references", []) if entry["refType"] == "CHILD_OF"]
            parent = parents[0] if parents else ""
            start, length = span["startTime"] * 1000, span["duration"] * 1000
            found.append(Span(span["spanID"], parent, service, span["operationName"], start, length))
    return found


def signoz_spans(document: list[dict[str, Any]]) -> list[Span]:
    """Rows under a list of columns; the parent is inside the text of the references."""
    found = []
    for part in document:
        for row in part["events"]:
            cells = dict(zip(part["columns"], row, strict=True))
            parent = re.search(r"SpanId=([0-9a-f]+),\s*RefType=CHILD_OF", str(cells.get("References", "")))
            start, length = int(cells["__time"]) * MILLION, int(cells["DurationNano"])
            name, service = str(cells["Name"]), str(cells["ServiceName"])
            found.append(Span(str(cells["SpanId"]), parent[1] if parent else "", service, name, start, length))
    return found


READERS: dict[str, Callable[..., list[Span]]] = {"tempo": tempo_spans, "jaeger": jaeger_spans, "signoz": signoz_spans}


def tree(spans: Iterable[Span]) -> list[str]:
    """One line a span, each below the one that it belongs to, in the order of their beginning."""
    known = sorted(spans, key=lambda span: (span.start, span.ident))
    idents, seen, screen = {span.ident for span in known}, set(), []

    def add(span: Span, depth: int) -> None:
        if span.ident not in seen:
            seen.add(span.ident)
            screen.append(f"{'  ' * depth}{span.name} ({span.service}, {span.duration / MILLION:.1f} ms)")
            for child in known:
                if child.parent == span.ident:
                    add(child, depth + 1)

    for span in known:
        if span.parent not in idents:
            add(span, 0)
    return screen


def ask(module: AnsibleModule, backend: Mapping[str, Any], trace_id: str) -> list[str]:
    """The trace as a screen, or one line that says why there is none."""
    url = backend["url"].rstrip("/") + PATHS[backend["kind"]].format(trace_id)
    headers = {**(backend["headers"] or {}), "Accept": "application/json"}
    response, info = fetch_url(module, url, headers=headers, timeout=10)
    if response is None or info["status"] != 200:
        return [f"{url} answers {info['status']}: {info.get('msg', '')}"]
    try:
        spans = READERS[backend["kind"]](json.loads(response.read()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{url} does not answer as {backend['kind']} does ({type(error).__name__}: {error})"]
    return tree(spans) or [f"{url} knows no span of it"]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "project": {"type": "str", "required": True},
            "id": {"type": "str", "required": True},
            "backend": {
                "type": "dict",
                "default": {},
                "options": {
                    "kind": {"type": "str", "choices": ["none", "tempo", "jaeger", "signoz"], "default": "none"},
                    "url": {"type": "str", "default": ""},
                    "headers": {"type": "dict", "default": {}, "no_log": True},
                },
            },
        },
        supports_check_mode=True,
    )
    ident: str = module.params["id"]
    if not VALID_ID.fullmatch(ident):
        module.fail_json(msg=f"{ident!r} is no id: take the X-Request-ID of an answer, and type ./seawall trace -e id=THE_ID")
    docker = shutil.which("docker")

    def run(*arguments: str) -> str:
        code, output, errors = module.run_command([str(docker), *arguments])
        if code != 0:
            reason = errors.strip().splitlines()[-1] if errors.strip() else f"docker {arguments[0]} failed"
            module.fail_json(msg=f"The Docker Engine does not answer: {reason}. See ./seawall status.")
        # A container's stderr is part of its log.
        return f"{output}\n{errors}"

    if not docker:
        module.fail_json(msg="There is no docker here, so nothing is installed. Start with ./seawall deploy.")
    label = f"label=com.docker.compose.project={module.params['project']}"
    listed = run("ps", "--all", "--filter", label, "--format", '{{.ID}} {{.Label "com.docker.compose.service"}}').split("\n")
    containers = [entry.split() for entry in listed if len(entry.split()) == 2]
    logs = [lines_in(service, run("logs", container)) for container, service in containers if LOGGED.fullmatch(service)]
    lines = lines_of(ident, (line for log in logs for line in log))
    trace_id, backend = trace_id_of(ident, lines), module.params["backend"]
    screen = [line_text(line) for line in lines] or [f"No log line carries {ident}; old lines make way for new ones."]
    spans: list[str] = []
    if backend["kind"] != "none" and trace_id:
        spans = ask(module, backend, trace_id)
        screen += [f"Trace {trace_id}:", *spans]
    module.exit_json(changed=False, found=bool(lines), lines=[dict(line.fields) for line in lines], screen=screen)


if __name__ == "__main__":
    main()
