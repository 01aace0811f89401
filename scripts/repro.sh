#!/bin/sh
# Raw data to report for one dataset: get the data, lock the plugins, run the pipeline.
set -eu
dataset=${DATASET:-mini}
if [ "$dataset" != mini ]; then
    if [ "$dataset" = public ] && [ -n "${HYPED_PUBLIC_DATA:-}" ]; then
        hyped data fetch public --from "$HYPED_PUBLIC_DATA"
    elif ! grep -q '^simulate-' "data/$dataset/pipeline.yaml" 2>/dev/null && [ ! -d "data/$dataset/raw" ]; then
        echo "data/$dataset/raw is not there. Get it with: hyped data fetch $dataset [--from FOLDER]" >&2
        exit 3
    fi
    hyped data use "$dataset"
fi
python scripts/check_lines.py
hyped plugins lock
python scripts/mend_after_kill.py
# nothing of the report follows from a released file, so its stages are named beside it
releases=$(awk '/^[^ #]/ { inside = /^release:/ } inside' params.yaml | sed -n "s/^  \($dataset[^:]*\):.*/release@\1/p")
# shellcheck disable=SC2086  (one word a stage)
python scripts/dvc_repro.py "report@$dataset" $releases
