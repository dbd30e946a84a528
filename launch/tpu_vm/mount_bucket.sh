#!/usr/bin/env bash
# On each worker of a TPU VM: BUCKET at /mnt/BUCKET, by Cloud Storage FUSE.
#
#   mount_bucket.sh BUCKET [OPTION...]  options are gcsfuse's; where it is mounted nothing happens
set -euo pipefail

if [[ ${1:---help} == --help ]]; then
  sed -n '2,4s/^# \{0,1\}//p' "$0"
  [[ ${1:-} == --help ]]
  exit
fi

bucket=$1
place=/mnt/$bucket
mountpoint --quiet "$place" && exit

# Google's Debian packages; the images have gcloud's source, not that of gcsfuse.
install_gcsfuse() {
  local source=packages.cloud.google.com/apt key=/usr/share/keyrings/gcsfuse.asc
  curl --fail --silent --show-error "https://$source/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] https://$source gcsfuse-$(lsb_release --codename --short) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  # A new machine updates itself, and holds the lock meanwhile.
  sudo apt-get -o DPkg::Lock::Timeout=600 --quiet update
  sudo apt-get -o DPkg::Lock::Timeout=600 --quiet --yes install gcsfuse
}

command -v gcsfuse >/dev/null || install_gcsfuse
sudo mkdir -p "$place"
sudo chown "$(id -u):$(id -g)" "$place"
gcsfuse "${@:2}" "$bucket" "$place"
mountpoint --quiet "$place"
echo "mounted: $(hostname) $place"
