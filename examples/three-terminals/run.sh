#!/usr/bin/env bash
# Starts a coordinator and three clients as processes on loopback, and waits for their end. Prints each
# command, so that you can type them in four terminals instead.
set -euo pipefail
cd "$(dirname "$0")"
cargo build --quiet --locked --workspace --bins
target=$(cargo metadata --format-version 1 --no-deps --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
export PATH="$target/debug:$PATH" FEDISTILL_DATA="$PWD/../../fixtures"
say() { printf '$ %s\n' "$*"; "$@"; }

rm -rf run
say fedistill-simulate --clients 3 --partition dirichlet:1 --share-out run/data
say fedistill-coordinator init run --federation demo
for i in 0 1 2; do say fedistill-coordinator client-cert "client-$i" --folder run; done
say fedistill-coordinator teacher train --config coordinator.toml

trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
echo '$ fedistill-coordinator run --config coordinator.toml &'
fedistill-coordinator run --config coordinator.toml 2>run/coordinator.log &
coordinator=$!
clients=()
for i in 0 1 2; do
  echo "\$ fedistill-client run --config client-$i.toml &"
  fedistill-client run --config "client-$i.toml" 2>"run/client-$i.log" &
  clients+=($!)
done
wait "$coordinator"
for client in "${clients[@]}"; do wait "$client"; done

say fedistill-coordinator status --config coordinator.toml
for i in 0 1 2; do say fedistill-client evaluate --config "client-$i.toml"; done
echo "logs, students and their model cards are in $PWD/run"
