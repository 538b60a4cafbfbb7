//! A node's local storage: a sparse image as large as the node's limit, an ext4 in it, and in that a directory that the
//! kernel encrypts with a random key, which nobody else ever has and which is gone when the volume is.
//!
//! fscrypt: <https://docs.kernel.org/filesystems/fscrypt.html>. Removing a volume twice, or one that was only half made,
//! is as good as removing it once.

use std::{
    fs, io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use model::{MiB, NodeName, SandboxId};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use zeroize::Zeroizing;

use crate::{
    Config, Doing, Error, ScratchEncryption,
    files::{make_dir, names, open_at, open_dir, open_root, remove_tree_at},
};

/// Makes and mounts the volume of a node, of which there must be none; returns its directory.
pub fn create(config: &Config, id: SandboxId, node: &NodeName, size: MiB) -> Result<PathBuf, Error> {
    let place = config.volume(id, node);
    let what = format!("making the volume of {node}");
    let image = new_image(config, id, node, size).doing(&what)?;
    make_file_system(&image, config.scratch_encryption).doing(&what)?;
    fs::create_dir_all(&place).doing(&what)?;
    let (path, _device) = attach(&image, &config.image(id, node)).doing(format!("{what}: a loop device"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
    mount(Some(&path), &place, Some("ext4"), flags, Some("noinit_itable")).doing(format!("{what}: mount"))?;
    let root = open_root(&place).doing(&what)?;
    // Nothing of it is for those who are not in the sandbox, and the sandbox sees the directories below alone.
    crate::files::give(root.as_fd(), 0o711, (0, 0)).doing(&what)?;
    let data = make_dir(root.as_fd(), DATA, 0o711, (0, 0)).doing(&what)?;
    match config.scratch_encryption {
        ScratchEncryption::Fscrypt => encrypt(&data).map_err(|cause| Error::Failed {
            doing: format!("{what}: encrypting it with fscrypt"),
            cause: format!("{cause}; the kernel needs CONFIG_FS_ENCRYPTION, AES-XTS and AES-CTS (`casemate doctor`)"),
        })?,
        ScratchEncryption::None => {}
    }
    Ok(place.join(DATA))
}

/// The directory of a volume that stands.
pub fn directory(config: &Config, id: SandboxId, node: &NodeName) -> PathBuf {
    config.volume(id, node).join(DATA)
}

/// Unmounts and removes the volume of a node, its key first.
pub fn remove(config: &Config, id: SandboxId, node: &NodeName) -> Result<(), Error> {
    let what = format!("removing the volume of {node}");
    unmount(&config.volume(id, node), &config.image(id, node)).doing(&what)?;
    match fs::remove_dir(config.volume(id, node)) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause).doing(what),
        _ => {}
    }
    let Some(images) = existing_images(config).doing(&what)? else { return Ok(()) };
    match open_dir(images.as_fd(), &id.to_string()) {
        Ok(dir) => {
            match nix::unistd::unlinkat(&dir, format!("{node}.img").as_str(), nix::unistd::UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(nix::errno::Errno::ENOENT) => Ok(()),
                Err(cause) => Err(cause).doing(what),
            }
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(cause).doing(what),
    }
}

/// Removes all volumes of a sandbox and the directory of their images.
pub fn remove_all(config: &Config, id: SandboxId) -> Result<(), Error> {
    let place = config.sandbox(id).join("volumes");
    for node in names(&place).iter().filter_map(|name| name.parse::<NodeName>().ok()) {
        remove(config, id, &node)?;
    }
    crate::files::remove_tree(&place).doing("removing the volumes' places")?;
    match existing_images(config).doing("opening the images")? {
        Some(images) => remove_tree_at(images.as_fd(), &id.to_string()).doing("removing the images"),
        None => Ok(()),
    }
}

/// Removes the images of sandboxes that are not (`live` says which are): those of before the machine went down.
pub fn remove_strays(config: &Config, live: impl Fn(SandboxId) -> bool) -> Result<(), Error> {
    let Some(images) = existing_images(config).doing("opening the images")? else { return Ok(()) };
    for name in names(&config.images()) {
        if !name.parse().is_ok_and(&live) {
            remove_tree_at(images.as_fd(), &name).doing("removing the images of sandboxes that are gone")?;
        }
    }
    Ok(())
}

/// Lets go of a volume's mount, in whatever state it is.
fn unmount(place: &Path, image: &Path) -> io::Result<()> {
    shut_down(place, image);
    forget_keys(place);
    let mut patience = 20;
    loop {
        match umount2(place, MntFlags::UMOUNT_NOFOLLOW) {
            // Until nothing is mounted there any more, which EINVAL says.
            Ok(()) => {}
            Err(nix::errno::Errno::ENOENT | nix::errno::Errno::EINVAL) => return Ok(()),
            // A process that was killed has not let go yet.
            Err(nix::errno::Errno::EBUSY) if patience > 0 => {
                patience -= 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(nix::errno::Errno::EBUSY) => umount2(place, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH)?,
            Err(cause) => return Err(cause.into()),
        }
    }
}

/// Makes the volume's file system forget what it has not written yet: unmounting would write all of it, gigabytes, for
/// nobody. Only where what is mounted is this very image on a loop device; never anything else of the machine.
fn shut_down(place: &Path, image: &Path) {
    let Ok(root) = open_root(place) else { return };
    let Ok(about) = nix::sys::stat::fstat(&root) else { return };
    let (major, minor) = (libc::major(about.st_dev), libc::minor(about.st_dev));
    let backing = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/loop/backing_file")).unwrap_or_default();
    if major != LOOP_MAJOR || Path::new(backing.trim_end_matches('\n')) != image {
        return;
    }
    let flags = EXT4_GOING_FLAGS_NOLOGFLUSH;
    // SAFETY: the request reads one number, which outlives the call.
    unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const flags) };
}

/// The directory of images: root's alone, in a directory that the service owns, so checked at each use.
fn images(config: &Config) -> io::Result<OwnedFd> {
    make_dir(open_root(&config.data)?.as_fd(), IMAGES, 0o700, (0, 0)).and_then(roots_own)
}

fn existing_images(config: &Config) -> io::Result<Option<OwnedFd>> {
    let found = open_root(&config.data).and_then(|data| open_dir(data.as_fd(), IMAGES)).and_then(roots_own);
    match found {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn roots_own(dir: OwnedFd) -> io::Result<OwnedFd> {
    let owner = nix::sys::stat::fstat(&dir)?.st_uid;
    if owner == 0 { Ok(dir) } else { Err(io::Error::other(format!("the directory of images belongs to user {owner}"))) }
}

fn new_image(config: &Config, id: SandboxId, node: &NodeName, size: MiB) -> io::Result<OwnedFd> {
    let images = images(config)?;
    check_room(&images, size)?;
    let dir = make_dir(images.as_fd(), &id.to_string(), 0o700, (0, 0))?;
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    let image = open_at(dir.as_fd(), &format!("{node}.img"), flags, 0o600)?;
    nix::unistd::ftruncate(&image, i64::try_from(size.bytes()).unwrap_or(i64::MAX))?;
    Ok(image)
}

/// An image takes its room as it is written; one that could not have it now would take it from the database and the
/// other jobs later.
fn check_room(images: &OwnedFd, size: MiB) -> io::Result<()> {
    let disk = nix::sys::statvfs::fstatvfs(images)?;
    let free = MiB(disk.blocks_available().saturating_mul(disk.fragment_size()) / MiB(1).bytes());
    match free >= size + RESERVE {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "a volume of {size} does not fit: the disk has {free} left, and keeps {RESERVE}"
        ))),
    }
}

fn make_file_system(image: &OwnedFd, encryption: ScratchEncryption) -> io::Result<()> {
    // No journal: what is in it is worthless after a crash, since its key is gone.
    let features = match encryption {
        ScratchEncryption::Fscrypt => "encrypt,^has_journal,^resize_inode",
        ScratchEncryption::None => "^has_journal,^resize_inode",
    };
    let output = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-b", "4096", "-m", "0", "-i", "32768", "-O", features])
        .args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0", "/proc/self/fd/0"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::from(image.try_clone()?))
        .output()
        .map_err(|cause| io::Error::other(format!("mkfs.ext4: {cause}; it is in the package e2fsprogs")))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("mkfs.ext4: {}", String::from_utf8_lossy(&output.stderr).trim()))),
    }
}

/// Puts the image on a free loop device, which the kernel frees again after the last use.
fn attach(image: &OwnedFd, name: &Path) -> io::Result<(PathBuf, OwnedFd)> {
    let control = fs::OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    let mut config =
        LoopConfig { fd: u32::try_from(image.as_raw_fd()).map_err(io::Error::other)?, ..LoopConfig::zeroed() };
    for (target, byte) in config.info.file_name[..63].iter_mut().zip(name.as_os_str().as_encoded_bytes()) {
        *target = *byte;
    }
    for _ in 0..256 {
        // SAFETY: a request without an argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device: OwnedFd = fs::OpenOptions::new().read(true).write(true).open(&path)?.into();
        // Straight to the disk where the file system below can: what is written waits in the volume's own page cache
        // already, and twice would count twice against the container's memory.
        for flags in [LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO, LO_FLAGS_AUTOCLEAR] {
            config.info.flags = flags;
            // SAFETY: the request reads one `loop_config`, which outlives the call.
            if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } == 0 {
                return Ok((path, device));
            }
            let cause = io::Error::last_os_error();
            match cause.raw_os_error() {
                Some(libc::EINVAL) => {}
                // Somebody else took it meanwhile.
                Some(libc::EBUSY) => break,
                _ => return Err(cause),
            }
        }
    }
    Err(io::Error::other("no loop device is free"))
}

/// Gives the file system a random key and the (empty) directory a policy that uses it.
fn encrypt(data: &OwnedFd) -> io::Result<()> {
    // struct fscrypt_add_key_arg: specifier (40), raw_size, key_id, flags, reserved (28), then the key.
    let mut argument = Zeroizing::new([0_u8; ADD_KEY_SIZE + KEY_SIZE]);
    argument[0..4].copy_from_slice(&FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER.to_ne_bytes());
    argument[40..44].copy_from_slice(&u32::try_from(KEY_SIZE).map_err(io::Error::other)?.to_ne_bytes());
    random(&mut argument[ADD_KEY_SIZE..])?;
    // SAFETY: the request reads and writes the header and reads `raw_size` bytes after it, all in `argument`.
    if unsafe { libc::ioctl(data.as_raw_fd(), FS_IOC_ADD_ENCRYPTION_KEY, argument.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // struct fscrypt_policy_v2: version, contents, file names, flags, 4 bytes, the key's identifier.
    let mut policy = [0_u8; 24];
    policy[..4].copy_from_slice(&[2, FSCRYPT_MODE_AES_256_XTS, FSCRYPT_MODE_AES_256_CTS, FSCRYPT_POLICY_FLAGS_PAD_32]);
    policy[8..24].copy_from_slice(&argument[8..24]);
    // SAFETY: the request reads one policy, of the version that its first byte says.
    match unsafe { libc::ioctl(data.as_raw_fd(), FS_IOC_SET_ENCRYPTION_POLICY, policy.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes the key of a volume away while its files may still be open. Nothing where there is none: unmounting takes it too.
fn forget_keys(place: &Path) {
    let (Ok(root), Ok(data)) = (open_root(place), open_root(&place.join(DATA))) else { return };
    // struct fscrypt_get_policy_ex_arg: the size of the policy, then the policy.
    let mut policy = [0_u8; 8 + 24];
    policy[..8].copy_from_slice(&24_u64.to_ne_bytes());
    // SAFETY: the request writes at most 24 bytes after the size.
    if unsafe { libc::ioctl(data.as_raw_fd(), FS_IOC_GET_ENCRYPTION_POLICY_EX, policy.as_mut_ptr()) } != 0 {
        return;
    }
    // An open directory would keep the key in use.
    drop(data);
    // struct fscrypt_remove_key_arg: specifier (40), status, reserved.
    let mut argument = [0_u8; 64];
    argument[0..4].copy_from_slice(&FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER.to_ne_bytes());
    argument[8..24].copy_from_slice(&policy[16..32]);
    // SAFETY: the request reads and writes `argument`, which has the size that its number says.
    unsafe { libc::ioctl(root.as_raw_fd(), FS_IOC_REMOVE_ENCRYPTION_KEY, argument.as_mut_ptr()) };
}

fn random(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the call writes at most that many bytes into the slice. Up to 256 bytes come whole.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(got).is_ok_and(|got| got == bytes.len()) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `struct loop_config` of `linux/loop.h`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl LoopConfig {
    fn zeroed() -> LoopConfig {
        // SAFETY: plain numbers, for which zero is valid.
        unsafe { std::mem::zeroed() }
    }
}

const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);

/// What volumes leave of the disk.
const RESERVE: MiB = MiB::gib(1);
const IMAGES: &str = "scratch";
const DATA: &str = "data";
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
const LOOP_MAJOR: u32 = 7;
const EXT4_IOC_SHUTDOWN: libc::c_ulong = nix::request_code_read!(b'X', 125, 4);
const EXT4_GOING_FLAGS_NOLOGFLUSH: u32 = 2;
const KEY_SIZE: usize = 64;
const ADD_KEY_SIZE: usize = 80;
const FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER: u32 = 2;
const FSCRYPT_MODE_AES_256_XTS: u8 = 1;
const FSCRYPT_MODE_AES_256_CTS: u8 = 4;
const FSCRYPT_POLICY_FLAGS_PAD_32: u8 = 3;
const FS_IOC_SET_ENCRYPTION_POLICY: libc::c_ulong = nix::request_code_read!(b'f', 19, 12);
const FS_IOC_GET_ENCRYPTION_POLICY_EX: libc::c_ulong = nix::request_code_readwrite!(b'f', 22, 9);
const FS_IOC_ADD_ENCRYPTION_KEY: libc::c_ulong = nix::request_code_readwrite!(b'f', 23, ADD_KEY_SIZE);
const FS_IOC_REMOVE_ENCRYPTION_KEY: libc::c_ulong = nix::request_code_readwrite!(b'f', 24, 64);
