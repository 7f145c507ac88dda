#!/usr/bin/env bash
# Holds the default method against all others, by accuracy and by bytes: the tables of docs/comparison.md.
#
# usage: benches/equal-bytes.sh TABLE [--seed-list 1,2,3] [other arguments of compare]
#
# TABLE is DATA-NET: fashion-mlp (the fixture), fashion-cnn, mnist-mlp, mnist-cnn (fixtures/fetch.sh mnist), watch-mlp or
# watch-cnn (fixtures/fetch.sh watch; people are clients); fashion-mlp-alone, the first without a teacher; or one for the
# bytes of federated averaging's own net, which takes an hour: fashion-fedavg-cnn. Results go to fedistill-report/TABLE;
# what was stopped goes on.
set -euo pipefail
cd "$(dirname "$0")/.."

table=${1:?usage: benches/equal-bytes.sh TABLE [arguments of compare]}
shift

# Whatever answers in f16 on the same samples sends the same values. cfd, scarlet, vote, selective and prototypes send
# what their papers do. The default sends half of f16 without a word; it is there in f16 and with fewer bytes too, down to
# votes, at those of vote.
methods=local,teacher-only,fedavg,adaptive@packing=f16,adaptive,adaptive@packing=u1
methods+=,adaptive,votes=0.75,logit-mean,fedntd,ds-fl:sa,ds-fl:era,ds-fl:enhanced-era,fedmd,fedmd,digest-batch=50,digest-epochs=10
methods+=,selective,vote,comet,kt-pfl,scarlet,cfd,cfd,start=0,cfd,start=0,bits-up=4,bits-down=4,fd
# Prototypes are as wide as the net's features: 64 for an MLP, which is what is asked for without a word.
prototypes=fedproto,fedtgp
skews=iid,dirichlet:1,dirichlet:0.1,shards:2,classes:1
case $table in fashion-cnn | mnist-cnn) prototypes=fedproto,width=784,fedtgp,width=784 ;; esac
case $table in
fashion-mlp) set -- --rounds 30 --models mlp-s --partitions $skews "$@" ;;
fashion-mlp-alone)
  # Who needs a teacher is not here, nor who is slow and nowhere near the best.
  methods=local,adaptive,adaptive,votes=0.75,selective,vote,logit-mean,ds-fl:era,ds-fl:sa prototypes=fd
  set -- --rounds 30 --models mlp-s --teachers none --partitions iid,dirichlet:1,dirichlet:0.3,dirichlet:0.1,shards:2,classes:1 "$@"
  ;;
fashion-cnn) set -- --config benches/cnn.toml --rounds 6 --models conv-s --partitions $skews "$@" ;;
mnist-mlp) set -- --data mnist --rounds 15 --models mlp-s --partitions $skews "$@" ;;
mnist-cnn) set -- --config benches/cnn.toml --data mnist --rounds 3 --models conv-s --partitions $skews "$@" ;;
watch-mlp) set -- --data watch --rounds 10 --models mlp-s --partition natural "$@" ;;
watch-cnn) set -- --data watch --rounds 10 --models sensor-conv --partition natural "$@" ;;
fashion-fedavg-cnn)
  methods=local,fedavg prototypes=adaptive@samples=500,distillation-epochs=2
  set -- --rounds 24 --models fedavg-cnn --partitions shards:2 "$@"
  ;;
*)
  echo "no table $table: see the head of benches/equal-bytes.sh" >&2
  exit 2
  ;;
esac
exec cargo run --quiet --bin fedistill-simulate -- compare --methods "$methods,$prototypes" --transport memory --out "fedistill-report/$table" "$@"
