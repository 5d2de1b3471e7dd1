#!/bin/busybox sh
# The first process of the guest: file systems, loopback, scripts/guest/job.sh, and the end of the guest.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root TERM=dumb
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
# Which the shell of the job needs for its pipes.
ln -sf /proc/self/fd /dev/fd
mount -t tmpfs -o size=80% tmp /tmp
ip link set lo up
# A folder of the host: what the job reads, and its report.
word() { sed -n "s/.*\\b$1=\\([^ ]*\\).*/\\1/p" /proc/cmdline; }
if mount -t hostfs host /host -o "$(word folder)"; then
    bash /job.sh "$(word many)"
    echo $? >/host/code
else
    echo "guest: the host's folder cannot be seen"
fi
sync
poweroff -f
