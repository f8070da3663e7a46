#!/bin/sh
# Takes the mlflow-onprem command off this host again, with the packages that came with it. First: sudo mlflow-onprem uninstall
set -eu

state=/var/lib/mlflow-onprem

# A function, so that the shell has read all of it before it removes this file.
remove() {
    [ "$(id -u)" = 0 ] || { echo "error: this removes a program and needs root: sudo $0" >&2; exit 1; }
    if [ -e /etc/systemd/system/mlflow.service ] || [ -e /etc/systemd/system/minio.service.d/mlflow-onprem.conf ]; then
        echo "error: the stack is still installed, and this command is what looks after it" >&2
        echo "hint: sudo mlflow-onprem uninstall" >&2
        exit 1
    fi
    rm -f /usr/local/bin/mlflow-onprem /usr/local/share/man/man1/mlflow-onprem.1 /usr/local/share/bash-completion/completions/mlflow-onprem \
        /usr/local/share/zsh/site-functions/_mlflow-onprem /etc/fish/completions/mlflow-onprem.fish
    # Folders that only we needed.
    for folder in /usr/local/share/bash-completion/completions /usr/local/share/bash-completion /usr/local/share/zsh/site-functions /usr/local/share/zsh \
        /usr/local/share/man/man1 /etc/fish/completions /etc/fish; do
        [ ! -d "$folder" ] || rmdir --ignore-fail-on-non-empty "$folder"
    done
    rm -rf /opt/mlflow-onprem/cli /opt/mlflow-onprem/bundle
    remove_packages
    if [ ! -e "$state/postgres-cluster" ]; then
        rm -f "$state/packages-brought" "$state/packages-before"
    fi
    for folder in "$state" /opt/mlflow-onprem /etc/mlflow-onprem; do
        [ ! -d "$folder" ] || rmdir --ignore-fail-on-non-empty "$folder"
    done
    echo "the mlflow-onprem command is off this host"
}

# Of what came with us, that which nothing else on this host needs: apt says which.
remove_packages() {
    [ -s "$state/packages-brought" ] || return 0
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none APT_LISTBUGS_FRONTEND=none
    for package in python3 python3-venv; do
        ! grep -qx "$package" "$state/packages-brought" || apt-mark auto "$package" >/dev/null
    done
    needless=$(apt-get -o APT::AutoRemove::SuggestsImportant=false -o APT::AutoRemove::RecommendsImportant=false --simulate --purge autoremove | sed -n 's/^\(Remv\|Purg\) \([^ ]*\).*/\2/p' | LC_ALL=C sort -u | LC_ALL=C comm -12 - "$state/packages-brought")
    # shellcheck disable=SC2086  # a word for each package
    [ -z "$needless" ] || apt-get -q -y purge $needless >/dev/null
}

remove "$@"
exit
