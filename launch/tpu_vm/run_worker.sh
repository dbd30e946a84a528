#!/usr/bin/env bash
# On each worker of a TPU VM: one run at a time, which no lost connection ends.
#
#   run_worker.sh start COMMAND...  starts it in the background; the same command again finds it
#   run_worker.sh status            one line: pagap_status none|running|ended|lost CODE SECONDS
#   run_worker.sh stop [SECONDS]    SIGTERM, so that it saves; SIGKILL after so long (300)
#
# In ~/pagap/run: command, log (all starts, one after another), pid, exit_code (code and time).
set -euo pipefail

run="$HOME/pagap/run"

# Who supervises the run holds the lock, and the kernel frees it whatever ends him: a pid could by
# then be another process's.
under_way() { ! flock --nonblock "$run/lock" true; }

start() {
  mkdir -p "$run" "$HOME/pagap/work"
  printf '%q ' "$@" >"$run/wanted"
  exec 9>>"$run/lock"
  if ! flock --nonblock 9; then
    if cmp --silent "$run/wanted" "$run/command"; then
      echo "$(hostname): under way already"
      return
    fi
    echo "$(hostname): found another run under way: $(<"$run/command"); stop it first" >&2
    return 2
  fi
  mv "$run/wanted" "$run/command"
  rm -f "$run/exit_code" "$run/pid"
  # The supervisor inherits the lock. A session of its own: the connection's end is no signal to it.
  setsid nohup bash "$0" supervise "$@" </dev/null >>"$run/log" 2>&1 &
  # It has left the connection's session only once it says who it is.
  for ((i = 0; i < 500; i++)); do
    [[ -s $run/pid ]] && echo "$(hostname): started" && return
    sleep 0.02
  done
  echo "$(hostname): found nobody who supervises the run after 10 s" >&2
  return 1
}

supervise() {
  echo "$BASHPID" >"$run/pid"
  echo "=== $(date -u +%FT%TZ) $(<"$run/command")"
  cd "$HOME/pagap/work"
  trap : TERM # for the command; this shell has yet to write down how it ended
  local code
  PATH="$HOME/pagap/venv/bin:$PATH" "$@" 9>&- &
  while true; do
    code=0
    wait "$!" || code=$?
    kill -0 "$!" 2>/dev/null || break # else a signal ended the wait, not the command
  done
  echo "=== $(date -u +%FT%TZ) exit code $code"
  echo "$code $(date +%s)" >"$run/exit_code.new"
  mv "$run/exit_code.new" "$run/exit_code"
}

status() {
  if [[ ! -e $run/command ]]; then
    echo "pagap_status none 0 0"
  elif under_way; then
    echo "pagap_status running 0 0"
  elif [[ -e $run/exit_code ]]; then
    echo "pagap_status ended $(<"$run/exit_code")"
  else
    echo "pagap_status lost 0 0"
  fi
}

stop() {
  local seconds=${1:-300} pid
  [[ -e $run/pid ]] && under_way || return 0
  pid=$(<"$run/pid")
  kill -TERM -- "-$pid"
  for ((i = 0; i < seconds * 5; i++)); do
    under_way || return 0
    sleep 0.2
  done
  kill -KILL -- "-$pid"
}

case ${1:-} in
  start | supervise | status | stop) "$@" ;;
  *)
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    [[ ${1:-} == --help ]]
    ;;
esac
