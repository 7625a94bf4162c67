"""Every JSON document conforms to its schema in Manuals/schema, and the schemas reject other documents."""

import copy
import json
import subprocess

import jsonschema
import pytest
import referencing

from conftest import ROOT, TOOLS, require_tools
from schema_documents import commands, written

TOOL_NAMES = ["step3-inspect", "step3-convert", "step3-verify"]
SCHEMAS = {}
for path in sorted((ROOT / "Manuals/schema").glob("*.schema.json")):
    SCHEMAS[path.name.removesuffix(".schema.json")] = json.loads(path.read_text())
REGISTRY = referencing.Registry().with_contents((schema["$id"], schema) for schema in SCHEMAS.values())
# Members with other programs' documents, whatever they contain.
FREE = {("list", "metadata"), ("metadata", "config"), ("metadata", "files", "metadata")}


def validator(kind):
    return jsonschema.Draft202012Validator(SCHEMAS[kind], registry=REGISTRY)


def kind_of(document):
    return document["schema"].split(":")[2]


def subcommands(tool):
    """The subcommands with --json, and the default one."""
    help_ = json.loads(
        subprocess.run([TOOLS / tool, "--experimental-dump-help"], capture_output=True, text=True, check=True).stdout)
    root = help_["command"]
    known = {
        command["commandName"]
        for command in root["subcommands"]
        if any(name["name"] == "json" for argument in command.get("arguments", []) for name in argument.get("names") or [])
    }
    return known, root.get("defaultSubcommand")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """What each command printed: (tool, subcommand, documents of standard output, lines of standard error)."""
    require_tools()
    work = tmp_path_factory.mktemp("documents")
    known = {tool: subcommands(tool) for tool in TOOL_NAMES}
    found = []
    for tool, arguments, status in commands(work):
        result = subprocess.run(
            [TOOLS / tool, *map(str, arguments), "--json", "--progress", "json"],
            capture_output=True, text=True, check=False, timeout=120)
        assert result.returncode == status, (tool, arguments, result.stderr)
        documents = json.loads(result.stdout) if result.stdout else []
        lines = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
        names, default = known[tool]
        subcommand = arguments[0] if arguments[0] in names else default
        found.append((tool, subcommand, documents if isinstance(documents, list) else [documents], lines))
    return found, list(written(work))


@pytest.fixture(scope="module")
def documents(outputs):
    printed, files = outputs
    found = [(kind_of(document), document) for _, _, documents, _ in printed for document in documents]
    for *_, lines in printed:
        found += [(kind_of(line) if "schema" in line else "progress", line) for line in lines]
    return found + files


def test_schemas_are_valid():
    for kind, schema in SCHEMAS.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        prefix, name, version = schema["$id"].rsplit(":", 2)
        assert (prefix, name) == ("urn:step3-toolkit", kind) and int(version) > 0
    manual = (ROOT / "Manuals/json.md").read_text()
    assert not [kind for kind in SCHEMAS if f"(schema/{kind}.schema.json)" not in manual]


def test_documents_conform_to_their_schemas(documents):
    for kind, document in documents:
        fault = jsonschema.exceptions.best_match(validator(kind).iter_errors(document))
        assert fault is None, (kind, list(fault.absolute_path), fault.message[:500])
        # A reader finds a document's schema by its first member.
        if "schema" in document:
            assert next(iter(document)) == "schema" and document["schema"] == SCHEMAS[kind]["$id"]
    assert {kind for kind, _ in documents} == set(SCHEMAS)


def test_no_command_is_forgotten(outputs):
    """A subcommand with --json that schema_documents.py does not run has no schema that is tested."""
    described = {
        (tool, subcommand) for tool, subcommand, documents, _ in outputs[0] if documents
    }
    known = {(tool, subcommand) for tool in TOOL_NAMES for subcommand in subcommands(tool)[0]}
    assert known <= described, known - described


def objects(value, path):
    """Each kind of object in a document once, with the keys that lead to it."""
    if isinstance(value, dict):
        yield path, value
        for key, member in value.items():
            if (*path, key) not in FREE:
                yield from objects(member, (*path, key))
    elif isinstance(value, list):
        for element in value[:2]:
            yield from objects(element, path)


def test_schemas_reject_changed_documents(documents):
    seen = set()
    for kind, document in documents:
        check = validator(kind)
        for key in document:
            if (kind, key) in seen:
                continue
            seen.add((kind, key))
            changed = {other: value for other, value in document.items() if other != key}
            assert not check.is_valid(changed), f"{kind} without {key}"
        changed = copy.deepcopy(document)
        for path, place in objects(changed, (kind,)):
            # A map has any keys.
            if path not in seen and path[-1] not in ("roles",):
                seen.add(path)
                place["unknown"] = 1
                assert not check.is_valid(changed), f"{path} with another key"
                del place["unknown"]
            for key, value in list(place.items()):
                if (*path, key) in seen or (*path, key) in FREE:
                    continue
                seen.add((*path, key))
                place[key] = {"unknown": 1} if not isinstance(value, dict) else "text"
                assert not check.is_valid(changed), f"{path}: {key} of another type"
                place[key] = value
    assert len(seen) > 500
