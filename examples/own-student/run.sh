#!/usr/bin/env bash
# Starts a coordinator and two devices with a model of their own, and waits for their end.
set -euo pipefail
cd "$(dirname "$0")"
cargo build --quiet --locked --workspace --bins
bin=$(cargo metadata --format-version 1 --no-deps --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug

rm -rf run
"$bin/fedistill-coordinator" init run --federation garden --classes setosa,versicolor,virginica >/dev/null
for site in greenhouse field; do
  "$bin/fedistill-coordinator" client-cert "$site" --folder run
done

trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
FEDISTILL_LOG=warn "$bin/fedistill-coordinator" run --config coordinator.toml &
for site in greenhouse field; do
  "$bin/own-student" "run/$site.pem" "data/$site.csv" data/test.csv 127.0.0.1:4466 | sed "s/^/$site: /" >"run/$site.log" &
done
wait
tail -n 2 run/greenhouse.log run/field.log
