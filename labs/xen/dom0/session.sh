# Runs in dom0 by bash, in the host's tree: starts what xl needs, then the command. The file 'job', which the host wrote, exports the
# environment, names the folder and makes the command the positional parameters.
. /run/mpt-lab/job

say() { echo "mpt-lab: $*" >/dev/console; }
give_up() {
  say "$*"
  "$MPT_LAB_TREE/bin/busybox" poweroff -f
  sleep 60
}

xen=$MPT_LAB_TREE/usr/lib/xen-4.17
mkdir -p "$HOME" /etc/xen /run/xen /run/xenstored /run/lock /var/lib/xen /var/lib/xenstored /var/log/xen
: >>/etc/xen/xl.conf
# libxl looks for its programs and firmware where the package would have put them.
ln -sfn "$xen" /usr/lib/xen-4.17

"$xen/bin/xenstored" --pid-file=/run/xen/xenstored.pid || give_up 'xenstored does not start'
"$xen/bin/xen-init-dom0" >/run/mpt-lab/log 2>&1 || give_up "xen-init-dom0: $(tail -n 1 /run/mpt-lab/log)"
"$xen/bin/xenconsoled" --pid-file=/run/xen/xenconsoled.pid || give_up 'xenconsoled does not start'

cd "$LAB_FOLDER" || give_up "no folder $LAB_FOLDER"
say up

# Through a pipe: a program that opens /dev/stderr anew would truncate a file.
mkfifo /run/mpt-lab/console
cat </run/mpt-lab/console >"$MPT_LAB_OUT/console.log" &
cat=$!
(exec "$@") >/run/mpt-lab/console 2>&1 </dev/null
rc=$?
# A process that the command left running may hold the pipe open.
for _ in 1 2 3 4 5 6 7 8 9 10; do
  kill -0 $cat 2>/dev/null || break
  sleep 0.1
done
exit $rc
