# Runs a PostgreSQL server and makes sure that it ends with whoever holds the other end of our standard input.
# Arguments: the directory to remove at the end, the log file, the server's command.
# A line on standard input stops the server and keeps the directory; end of file (also when the holder was killed
# by SIGKILL and could clean up nothing) stops it and removes the directory.
directory=$1
log=$2
shift 2
exec 3<&0
"$@" >>"$log" 2>&1 </dev/null 3<&- &
server=$!
(
    if read -r word <&3; then stopped=0; else stopped=1; fi
    # Once the server is told to stop, our own parent ends us as soon as it is gone: our exit code has to survive.
    trap '' TERM
    # Where our parent was killed, the server went with it, and its process id may be somebody else's by now.
    if kill -0 $$ 2>/dev/null; then kill -QUIT "$server" 2>/dev/null; fi
    exit "$stopped"
) &
reader=$!
exec 3<&-
wait "$server"
status=$?
kill -TERM "$reader" 2>/dev/null
wait "$reader"
if [ "$?" -eq 1 ]; then rm -rf "$directory"; fi
exit "$status"
