"""Renders a chart with values, lints it, and validates what came out: JSON on stdout, or why not on stderr.

    render.py CHART VALUES_FILE [VALUES_AS_JSON]
"""

import json
import pathlib
import sys

import helm_python
import jsonschema
import kubernetes_validate
import yaml

# The oldest that the chart allows, one between, and the newest that the validator knows.
VERSIONS = ["1.25", "1.31", "1.37"]
# Resources that Kubernetes itself does not know.
CUSTOM = json.loads((pathlib.Path(__file__).parent / "crds.json").read_text(encoding="utf-8"))


def merged(below, above):
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {key: merged(below.get(key), value) for key, value in above.items()}


def faults(manifest):
    kind = manifest["kind"]
    if kind in CUSTOM:
        schema = {**CUSTOM[kind], "$defs": CUSTOM["$defs"]}
        return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(manifest)]
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            found.append(f"Kubernetes {version} has no such resource, and crds.json neither")
        except kubernetes_validate.ValidationError as error:
            found.append(f"Kubernetes {version}: {error.message}")
    return found


def main(chart_folder, values_file, values_as_json="{}"):
    with open(values_file, encoding="utf-8") as file:
        values = merged(yaml.safe_load(file), json.loads(values_as_json))
    chart = helm_python.Chart.load(chart_folder)
    chart.validate_schema(values)
    files = chart.render(values, name="test", namespace="alerts", revision=1, is_install=True)
    notes = next(text for path, text in files.items() if path.endswith("NOTES.txt"))
    texts = [text for path, text in files.items() if path.endswith(".yaml")]
    manifests = [manifest for text in texts for manifest in yaml.safe_load_all(text) if manifest]
    problems = helm_python.lint(chart_folder, values, strict=True, namespace="alerts")["errors"]
    for manifest in manifests:
        problems += [f"{manifest['kind']} {manifest['metadata']['name']}: {fault}" for fault in faults(manifest)]
    print(json.dumps({"manifests": manifests, "notes": notes, "problems": problems}))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except helm_python.HelmError as error:
        sys.exit(str(error))
