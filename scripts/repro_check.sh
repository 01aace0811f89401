#!/bin/sh
# Whether the numbers that make repro made are the committed ones, each within the tolerance that its metric declares.
# Of TRAINED models only the same metrics have to be there: training magnifies how a processor rounds.
set -eu
dataset=${DATASET:-mini}
TRAINED="expression/gears expression/gears-reference denoise/fm2s-series embedding/geneformer-tiny"
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
git archive --output "$place/committed.tar" HEAD "metrics/$dataset"
mkdir "$place/committed" "$place/made"
tar -xf "$place/committed.tar" -C "$place/committed" --strip-components 2
cp -R "metrics/$dataset/." "$place/made"
for model in $TRAINED; do
    [ -f "$place/committed/$model.json" ] || continue
    hyped bench compare --absolute 1e9 "$place/committed/$model.json" "$place/made/$model.json" >"$place/said" ||
        { code=$?; echo "$model, which is trained, lacks numbers" >&2; exit $code; }
    echo "$model is trained: not held to a tolerance" >&2
    rm "$place/committed/$model.json" "$place/made/$model.json"
done
hyped bench compare --tolerances "$(dirname "$0")/repro_tolerances.yaml" "$place/committed" "$place/made"
