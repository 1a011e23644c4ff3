#!/usr/bin/env python3
"""Takes from the Engine API's swagger what the schema check needs, and nothing that anybody wrote as prose.

    tests/schema/extract.py SWAGGER.yaml > tests/schema/engine-api-1.53.json

Needs Debian's python3-yaml. Kept are names, types, which fields there must be, formats, and which statuses an operation
has; a line for each definition and operation, so that a newer version of the API is a readable difference. Swarm is
kept as paths and parameters alone: what an engine outside a swarm answers there has no schema but that of failures.
"""

import json
import sys

import yaml

SCHEMA = {
    "$ref", "type", "format", "properties", "required", "items", "additionalProperties", "allOf", "enum", "x-nullable",
    "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern",
}
PARAMETER = {"name", "in", "collectionFormat"}
SWARM = {"swarm", "nodes", "services", "tasks", "secrets", "configs"}
# Documents of streams, which no operation refers to.
STREAMED = {"BuildInfo", "CreateImageInfo", "PushImageInfo"}


def schema(node):
    """A schema without what is said about it."""
    kept = {}
    for key, value in node.items():
        if key == "properties":
            kept[key] = {name: schema(field) for name, field in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            kept[key] = schema(value)
        elif key == "allOf":
            kept[key] = [schema(part) for part in value]
        elif key in SCHEMA:
            kept[key] = value
    return kept


def parameter(node, bodies):
    kept = {key: node[key] for key in sorted(PARAMETER & node.keys())}
    if "schema" in node:
        return kept | {"schema": schema(node["schema"]) if bodies else {"type": "object"}}
    rest = schema(node)
    # Of a parameter, `required` is no list of fields.
    rest.pop("required", None)
    return kept | rest


def operation(path, node):
    swarm = path.split("/")[1] in SWARM
    responses = {
        str(status): schema(response["schema"])
        if int(status) < 400 and "schema" in response and not swarm
        else None
        for status, response in node["responses"].items()
    }
    return {"parameters": [parameter(p, not swarm) for p in node.get("parameters", [])], "responses": responses}


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].removeprefix("#/definitions/")
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def reachable(definitions, paths):
    found, open_ = set(), set(references(paths)) | STREAMED | {"ErrorResponse"}
    while open_:
        name = open_.pop()
        found.add(name)
        open_ |= set(references(definitions[name])) - found
    return {name: definitions[name] for name in sorted(found)}


def lines(mapping, indent):
    pad = " " * indent
    body = ",\n".join(f"{pad}{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in mapping.items())
    return "{\n" + body + "\n" + " " * (indent - 1) + "}"


def main(swagger):
    with open(swagger, encoding="utf-8") as file:
        document = yaml.safe_load(file)
    operations = {}
    for path, methods in document["paths"].items():
        for method, node in methods.items():
            operations[f"{method.upper()} {path}"] = operation(path, node)
    definitions = {name: schema(node) for name, node in document["definitions"].items()}
    definitions = reachable(definitions, operations)
    print("{")
    print(f' "version": {json.dumps(document["info"]["version"])},')
    print(f' "operations": {lines(operations, 2)},')
    print(f' "definitions": {lines(definitions, 2)}')
    print("}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
