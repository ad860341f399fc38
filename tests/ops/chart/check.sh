#!/bin/sh
# `make chart-check`: renders the chart for ops/helm/ci/*.yaml, checks what comes out against Kubernetes' own schemas, and
# keeps it in tests/data/chart, where `make test` looks at it without Go. With helm on PATH, helm lints and renders it, too.
set -eu
cd "$(dirname "$0")/../../.."
data=tests/data/chart
go=$(command -v go || echo /usr/lib/go-1.19/bin/go)
packages="golang-go golang-github-masterminds-sprig-dev golang-gopkg-yaml.v3-dev"
[ -x "$go" ] && [ -d /usr/share/gocode/src/github.com/Masterminds/sprig ] || { echo "chart-check: sudo apt-get install -y $packages" >&2; exit 1; }
render=$(mktemp)
trap 'rm -f "$render"' EXIT
GO111MODULE=off GOPATH=/usr/share/gocode "$go" build -o "$render" tests/ops/chart/render.go
for values in ops/helm/ci/*.yaml; do
    "$render" ops/helm "$values" >"$data/$(basename "$values")"
    if command -v helm >/dev/null; then
        helm lint --strict ops/helm --values "$values"
        helm template test ops/helm --namespace fleet --values "$values" >/dev/null
    fi
done
"${PYTHON:-python3}" -m tests.ops.chart.conform "$data"/*.yaml
"${PYTHON:-python3}" -m tests.ops.chart.digest >"$data/digest"
echo "rendered and checked: $data"
