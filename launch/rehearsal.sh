#!/usr/bin/env bash
# Starts N processes of pagap on this machine's CPU, as a pod of N hosts would.
#
#   launch/rehearsal.sh [--devices D] [--grace S] [--logs DIR] [--dry_run] N JOB --gin_file=... ...
#
#   --devices D   devices a process (DEVICES_PER_PROCESS, else 4: the chips of a TPU host)
#   --grace S     seconds that processes have to end, once one of them ended badly and after
#                 SIGTERM, before SIGTERM and SIGKILL (60)
#   --logs DIR    process_0.log and so on (rehearsal_logs); the first one's is on the screen too
#
# SIGTERM and Ctrl-C reach every process as SIGTERM, as on a pod. Exit code: 0, or that of the
# process that ended badly first; what the others end with follows from it.
# PAGAP=PROGRAM runs another pagap than the one on PATH or in .venv.
set -euo pipefail

# A shell's background job ignores Ctrl-C from its start, and can't trap it: again, heeding it.
[[ $(trap -p INT) != "trap -- ''"* ]] || exec env --default-signal=INT "$0" "$@"

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; }
refuse() {
  echo "rehearsal: $*" >&2
  exit 2
}
check_number() { # NAME TEXT
  [[ $2 =~ ^[1-9][0-9]{0,5}$ ]] || refuse "$1: found '$2', expected a whole number of at least 1"
}

devices=${DEVICES_PER_PROCESS:-4} grace=60 logs=rehearsal_logs dry_run=
while (($#)); do
  case $1 in
    --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" && continue ;;
    --help | -h) usage && exit ;;
    --dry_run) dry_run=1 && shift ;;
    --devices | --grace | --logs)
      (($# > 1)) || refuse "$1: found nothing, expected a value"
      declare "${1#--}=$2" && shift 2
      ;;
    -*) refuse "found option '$1', expected one of --devices --grace --logs --dry_run --help" ;;
    *) break ;;
  esac
done
(($# > 1)) || refuse "found '$*', expected the number of processes and pagap's arguments"
check_number --devices "$devices"
check_number --grace "$grace"
check_number "the number of processes" "$1"
count=$1 && shift
here=$(cd "$(dirname "$0")/.." && pwd)
pagap=${PAGAP:-$(command -v pagap || echo "$here/.venv/bin/pagap")}
[[ $dry_run ]] || command -v "$pagap" >/dev/null || refuse "found no program '$pagap'"

free_port() { # below what the kernel gives to outgoing connections
  local port
  while port=$((20000 + RANDOM % 10000)); do
    (: 3<>"/dev/tcp/localhost/$port") 2>/dev/null || break
  done
  echo "$port"
}

address=localhost:$(free_port)
flags="${XLA_FLAGS:+$XLA_FLAGS }--xla_force_host_platform_device_count=$devices"
declare -A running=() # index of each process by its pid
worst=0 deadline=

environment() { # INDEX
  printf '%s\n' "JAX_COORDINATOR_ADDRESS=$address" "JAX_NUM_PROCESSES=$count" \
    "JAX_PROCESS_ID=$1" JAX_PLATFORMS=cpu "XLA_FLAGS=$flags" \
    JAX_CPU_COLLECTIVES_IMPLEMENTATION=gloo
}

pass_on() { # SIGNAL
  ((${#running[@]} == 0)) || kill "-$1" "${!running[@]}" 2>/dev/null || true
}

stop_by() { deadline=$((SECONDS + grace)) next=$1; }

trap 'pass_on TERM; stop_by KILL' TERM INT

for ((i = 0; i < count; i++)); do
  mapfile -t variables < <(environment "$i")
  command=(env --unset=PAGAP_PROCESSES "${variables[@]}" "$pagap" "$@")
  log=$logs/process_$i.log
  if [[ $dry_run ]]; then
    echo "${command[*]@Q} >${log@Q} 2>&1 &"
    continue
  fi
  mkdir -p "$logs"
  : >"$log" # it has to be there before tail looks
  "${command[@]}" >"$log" 2>&1 &
  running[$!]=$i
  ((i)) || tail --pid="$!" --lines=+1 --sleep-interval=0.1 --follow "$log" & # ends by itself, after the last line
  ((i)) || shown=$!
done

while ((${#running[@]})); do
  for pid in "${!running[@]}"; do
    kill -0 "$pid" 2>/dev/null && continue
    code=0
    wait "$pid" || code=$?
    if ((code)); then
      echo "rehearsal: process ${running[$pid]} ended with $code, $logs/process_${running[$pid]}.log" >&2
      ((worst)) || worst=$code
      [[ $deadline ]] || stop_by TERM
    fi
    unset "running[$pid]"
  done
  if [[ $deadline ]] && ((SECONDS >= deadline)); then
    pass_on "$next"
    stop_by KILL
  fi
  sleep 0.1 || true
done
[[ $dry_run ]] || wait "$shown" || true
exit "$worst"
