#!/bin/sh
# Prints TMPDIR=/dev/shm where that folder is in memory, has room for 4 GB more, and lets programs run.
place=$(mktemp -d /dev/shm/fedscore-XXXXXX 2>/dev/null) || exit 0
printf '#!/bin/sh\n' > "$place/probe"
chmod +x "$place/probe"
room=$(df -Pk "$place" | awk 'END {print $4}')
memory=$(awk '/^MemAvailable/ {print $2}' /proc/meminfo 2>/dev/null)
"$place/probe" 2>/dev/null && [ "${room:-0}" -gt 4000000 ] && [ "${memory:-0}" -gt 4000000 ] && echo TMPDIR=/dev/shm
rm -rf "$place"
