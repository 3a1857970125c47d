#!/usr/bin/env bash
# The main job end to end, through `ray job submit`: sample tables, codes, model, pictures, score, gallery, reports.
#   quickstart.sh OUT               called by `make quickstart`, `make sample-full` and `make sample-both` inside
#                                   `local_head.py run`, which starts and stops the head
#   quickstart.sh --clean OUT...    removes what it made, called by `make clean`
# SEED, ROWS and EPOCHS change what is made; `make sample-full` is more rows and more epochs. With IMAGE_TO_TEXT,
# a share, the model learns to caption too (`make sample-both`), and what its captions name right is printed.
#
# OUT is a directory of its own, new or empty: it puts a marker there, and removes nothing where that is missing.
set -euo pipefail
shopt -s nullglob
marker=.painter-quickstart
made=(train.parquet valid.tsv prompts.tsv codes_train codes_valid model pictures.tsv score gallery.html
  model.html pictures.html held_out.tsv captions.parquet)

usage() { echo "usage: quickstart.sh OUT, or quickstart.sh --clean OUT..." >&2; exit 2; }

check_ours() {
  [ -n "$1" ] || usage
  if [ -e "$1" ] && { [ ! -d "$1" ] || { [ ! -e "$1/$marker" ] && [ -n "$(ls -A -- "$1")" ]; }; }; then
    echo "quickstart: $1 is not a directory of quickstart's (no $marker in it): nothing was changed. Name another" \
      "one (make quickstart QUICKSTART=DIR), or remove it yourself" >&2
    exit 2
  fi
}

remove_ours() {
  for name in "${made[@]}"; do
    # beside an output: its run directory, a killed run's lock, a successor that was not finished
    rm -rf -- "$1/$name" "$1/$name".{run,lock,new} "$1/$name".run.{lock,new} "$1/.$name".*.tmp
  done
}

if [ "${1-}" = --clean ]; then
  shift
  [ $# -gt 0 ] || usage
  for out in "$@"; do check_ours "$out"; done
  for out in "$@"; do
    [ -e "$out/$marker" ] || continue
    remove_ours "$out"
    rm -f -- "$out/$marker"
    rmdir -- "$out" 2>/dev/null || echo "quickstart: $out stays, with files that quickstart did not make"
  done
  exit
fi

[ $# -eq 1 ] || usage
out=$1
seed=${SEED:-42}
rows=${ROWS:-5000}
epochs=${EPOCHS:-4}
both=()
if [ -n "${IMAGE_TO_TEXT:-}" ]; then both=(--image-to-text "$IMAGE_TO_TEXT"); fi

check_ours "$out"
if [ -e "$out/pictures.tsv" ]; then
  echo "quickstart: $out holds a finished run; starting over"
  remove_ours "$out"
elif [ -e "$out/$marker" ]; then
  echo "quickstart: resuming in $out"
fi
gpus=$(nvidia-smi --list-gpus 2>/dev/null | wc -l || true)
if [ "$gpus" -gt 0 ]; then
  echo "quickstart: computes on the GPU, in bf16 (NVIDIA GPUs here: $gpus); if it fails, make gpu-check says why"
fi
mkdir -p -- "$out"
touch -- "$out/$marker"

# What Ray's command line says of its own affairs (its errors are of another kind and stay), and each job's last line,
# which names what is done here next anyway.
of_ray='^[0-9-]+ [0-9:,]+\t((INFO|SUCC) [a-z_]+\.py:|WARNING working_dir\.py:[0-9]+ -- Directory .* is now ignored)'
of_ray+='|^Running entrypoint for job '
quiet() { sed -uE "/$of_ray/d; /^[0-9:]{8} next: /d"; }
submit() {
  printf '\n+ ray job submit --working-dir . -- python %s\n' "$*"
  ray job submit --log-style record --log-color false --working-dir . -- python "$@" 2>&1 | quiet
}
table() { [ -e "$1" ] || python jobs/make_table.py --outputs "$@" 2>&1 | quiet; }

table "$out/train.parquet" --sample "$rows" --random-seed "$seed"
table "$out/valid.tsv" --sample 200 --split valid --random-seed "$seed"
table "$out/prompts.tsv" --sample 64 --split held_out --prompts --random-seed "$seed"

submit jobs/precompute_codes.py --tables "$out/train.parquet" --outputs "$out/codes_train"
submit jobs/precompute_codes.py --tables "$out/valid.tsv" --outputs "$out/codes_valid"
submit jobs/train.py --tables "$out/codes_train,$out/codes_valid" --checkpoint-dir "$out/model" --random-seed "$seed" \
  --model tiny --text-len 24 --optimizer muon --learning-rate 2e-3 --warmup-proportion 0.05 --caption-dropout 0.1 \
  --micro-batch-size 16 --epoch-num "$epochs" --logging-steps 100 --save-checkpoint-steps 1000 \
  "${both[@]}" --preview-table "$out/prompts.tsv" --preview-steps 500
submit jobs/generate.py --tables "$out/prompts.tsv" --checkpoint-dir "$out/model" --outputs "$out/pictures.tsv" \
  --random-seed "$seed" --top-k 10 --guidance-scale 2
submit jobs/evaluate.py --tables "$out/pictures.tsv" --outputs "$out/score" --attributes
page() { python jobs/"$1".py "${@:2}" --overwrite 2>&1 | quiet; }
page make_gallery --tables "$out/pictures.tsv" --scores "$out/score" --outputs "$out/gallery.html"
if [ ${#both[@]} -gt 0 ]; then
  table "$out/held_out.tsv" --sample 200 --split held_out --random-seed "$seed"
  submit jobs/caption.py --tables "$out/held_out.tsv" --checkpoint-dir "$out/model" \
    --outputs "$out/captions.parquet" --append-cols text --random-seed "$seed"
  python cluster/caption_score.py "$out/captions.parquet" "$out/score/score.md"
fi
page report "$out/model" --outputs "$out/model.html"
page report "$out/pictures.tsv" --outputs "$out/pictures.html"

cat <<END

quickstart: done.
  pictures     $out/pictures.tsv
  gallery      $out/gallery.html
  score        $out/score/report.html
  model        $out/model/best
  TensorBoard  $out/model/tensorboard    (pip install tensorboard; tensorboard --logdir "$out/model/tensorboard")
  reports      $out/pictures.html
               $out/model.html
next: open $out/model.html in a browser; then your own pictures, see README.md
END
