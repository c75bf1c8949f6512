"""Reads a Kubernetes manifest from standard input, holds it against the API's schemas, unknown fields refused, and prints
it as JSON. Arguments: versions of Kubernetes."""

import json
import sys

import kubernetes_validate
import yaml

manifest = yaml.safe_load(sys.stdin)
for version in sys.argv[1:]:
    kubernetes_validate.validate(manifest, version, strict=True)
json.dump(manifest, sys.stdout)
