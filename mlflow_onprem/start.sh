#!/bin/sh
# Starts the mlflow-onprem command with the Python that it was made with. No Python itself, so that it can say what is wrong
# where that Python is gone (a new release of the distribution brings another one) or where no program may start at all.
home=/opt/mlflow-onprem/cli

# Python itself does not start with a folder as its input.
[ ! -d /dev/fd/0 ] || exec </dev/null

# The program, for root and everybody else, on a filesystem that allows programs; and the library that belongs to this very Python.
if [ -x "$home/libexec/mlflow-onprem" ] && [ -x "$home/bin/python" ] && read -r library 2>/dev/null <"$home/library" && [ -e "$library" ]; then
    exec "$home/bin/python" -I "$home/libexec/mlflow-onprem" "$@"
fi

release=$(. /etc/os-release && printf '%s' "${PRETTY_NAME:-this system}")
again="sudo $home/checkout/bootstrap"
[ -x "$home/checkout/bootstrap" ] || again="sudo ./bootstrap in a checkout of mlflow-onprem"
if [ -d /opt/mlflow-onprem/bundle ]; then
    again="make a bundle for this release on a connected machine (mlflow-onprem bundle create), then here: sudo ./bootstrap --bundle FILE"
fi
mount=$(findmnt -n -o TARGET -T "$home" 2>/dev/null)
case ",$(findmnt -n -o OPTIONS -T "$home" 2>/dev/null)," in
*,noexec,*) noexec=yes ;;
*) noexec= ;;
esac
closed=
for folder in /opt /opt/mlflow-onprem "$home" "$home/bin" "$home/libexec"; do
    [ -n "$closed" ] || [ ! -d "$folder" ] || [ -x "$folder" ] || closed=$folder
done
if [ -n "$closed" ]; then
    what="this account may not enter $closed"
    next="let every account enter it: sudo chmod a+rx $closed; or run this with sudo"
elif [ ! -e "$home" ]; then
    what="its folder $home is gone"
    next="$again; it brings the command back and leaves the stack and its data as they are"
elif [ -n "$noexec" ]; then
    what="$mount is mounted noexec, so no program there may run"
    next="sudo mount -o remount,exec $mount; and take noexec out of its line in /etc/fstab, so that it stays so"
elif [ -e "$home/libexec/mlflow-onprem" ] && [ -x "$home/bin/python" ] && [ -e "$home/library" ]; then
    what="a part of the Python that it was made with is gone; this host runs $release now"
    next="$again; then: sudo mlflow-onprem install. All runs and artifacts are still there"
elif [ ! -x "$home/bin/python" ]; then
    what="the Python that it was made with ($(readlink -m "$home/bin/python")) is gone; this host runs $release now"
    next="$again; then: sudo mlflow-onprem install. All runs and artifacts are still there"
else
    what="a part of it is missing in $home"
    next="$again; it brings the command back and leaves the stack and its data as they are"
fi
case " $* " in
*" --json "*)
    command=
    for word in "$@"; do
        case $word in
        -*) ;;
        *[!a-z-]*) break ;;
        *) command=$word && break ;;
        esac
    done
    printf '{"schema": 1, "command": "%s", "error": {"message": "mlflow-onprem cannot start: %s", "hint": "%s", "output": ""}}\n' "$command" "$what" "$next"
    ;;
esac
printf 'error: mlflow-onprem cannot start: %s\nwhat next: %s\n' "$what" "$next" >&2
exit 1
