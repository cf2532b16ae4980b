//! The unix socket that the agent listens on.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::unistd::{Group, chown};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use crate::model::{Error, Result};

/// The group whose members may command the agent, if the host has it.
pub const GROUP: &str = "spandrel";

/// The socket's file; it goes away with this value.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Left behind, it would only say "connection refused", and the next agent would replace it.
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes the socket at `path` (mode 0660, group `spandrel` if it exists) and listens on it.
///
/// A socket that nobody listens on any more is replaced; anything else in its place is left alone, and the refusal names the `option`
/// by which another path can be chosen.
pub fn bind(path: &Path, option: &str) -> Result<(UnixListener, SocketFile)> {
    make_way(path, option)?;
    let failed = |error| cannot_listen(path, error);
    let (socket, file) = place(path)?;
    socket.listen(libc::SOMAXCONN).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    Ok((UnixListener::from_std(socket.into()).map_err(failed)?, file))
}

/// Puts a socket at `path` on which nobody listens yet. Its file begins with the mode that the umask leaves, so only when
/// owner and mode are what they should be may anybody connect.
fn place(path: &Path) -> Result<(Socket, SocketFile)> {
    let failed = |error| cannot_listen(path, error);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    socket.bind(&SockAddr::unix(path).map_err(failed)?).map_err(failed)?;
    let file = SocketFile(path.into());
    match Group::from_name(GROUP) {
        Ok(Some(group)) => chown(path, None, Some(group.gid)).map_err(|errno| failed(errno.into()))?,
        Ok(None) => {}
        Err(errno) => tracing::warn!("cannot look up the group {GROUP}: {errno}"),
    }
    fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(failed)?;
    Ok((socket, file))
}

fn cannot_listen(path: &Path, error: io::Error) -> Error {
    Error::internal(format_args!("cannot listen on the socket {}", path.display()), error)
}

/// Removes a socket that its agent left behind.
fn make_way(path: &Path, option: &str) -> Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::internal(format_args!("cannot look at {}", path.display()), error)),
    };
    let shown = path.display();
    if !file.file_type().is_socket() {
        return Err(Error::Conflict(format!(
            "{shown} is in the way and is not a socket: choose another path with {option}"
        )));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(Error::Conflict(format!("another process listens on {shown}: choose another path with {option}")));
    }
    fs::remove_file(path).map_err(|error| Error::internal(format_args!("cannot remove the old socket {shown}"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_connects_before_the_mode_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let (socket, _file) = place(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        socket.listen(1).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn only_a_dead_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let (first, file) = bind(&path, "--socket").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(bind(&path, "--socket").unwrap_err().to_string().contains("another process listens"));
        drop(first);
        std::mem::forget(file);
        let second = bind(&path, "--socket").unwrap();
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());

        let file = dir.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert!(bind(&file, "--socket").unwrap_err().to_string().contains("not a socket"));
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }
}
