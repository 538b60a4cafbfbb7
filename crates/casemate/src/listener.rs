//! Accepts connections, with TLS where it is configured, and hands each to its protocol.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Sleep, sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Listener, Tls},
    failure::{Doing, Failure},
};

/// A byte stream to one client.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Makes the end of the stream a cut: what has not been sent is thrown away.
    fn cut(&self);
}

impl Connection for TcpStream {
    fn cut(&self) {
        // Else the system would keep it, for as long as a client takes none of it.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Connection for TlsStream<TcpStream> {
    fn cut(&self) {
        self.get_ref().0.cut();
    }
}

/// The listener that a service manager passed, or a new one on the configured address.
pub fn bind(settings: &Listener, inherited: Option<std::net::TcpListener>) -> Result<std::net::TcpListener, Failure> {
    let listener = match inherited {
        Some(listener) => listener,
        None => std::net::TcpListener::bind(settings.listen)
            .doing(format!("cannot listen on {}", settings.listen))
            .map_err(|failure| failure.help("choose another address, or stop what listens there"))?,
    };
    listener.set_nonblocking(true).doing("cannot prepare the listener")?;
    Ok(listener)
}

/// The TLS side of a listener, if it has one. TLS 1.2 and 1.3, by rustls with aws-lc-rs.
pub fn acceptor(tls: Option<&Tls>) -> Result<Option<TlsAcceptor>, Failure> {
    let Some(tls) = tls else { return Ok(None) };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect)
        .doing(format!("cannot read the certificate {}", tls.certificate.display()))?;
    let key = read_key(&tls.key)?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .doing("the certificate and key do not make a TLS identity")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_file(path).doing(format!("cannot read the private key {}", path.display()))
}

/// Accepts until `stop`, then waits for the open connections, at most [`DRAIN`].
/// `serve` gets each stream, TLS already done, with the client's address.
pub async fn accept<F, Fut>(
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    stop: CancellationToken,
    serve: F,
) -> Result<(), Failure>
where
    F: Fn(Box<dyn Connection>, SocketAddr, CancellationToken) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    SockRef::from(&listener).set_tcp_notsent_lowat(MOST_NOT_SENT).doing("cannot prepare the listener")?;
    let listener = TcpListener::from_std(listener).doing("cannot use the listener")?;
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let open = TaskTracker::new();
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { break };
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(cause) => {
                    // Out of descriptors or a connection that went away: neither ends the service.
                    tracing::warn!(%cause, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let (tls, serve, stop) = (tls.clone(), serve.clone(), stop.clone());
        open.spawn(async move {
            if let Some(stream) = handshake(stream, tls).await {
                serve(Box::new(Greeted::new(stream, GREETING)), peer, stop).await;
            }
            drop(place);
        });
    }
    open.close();
    if tokio::time::timeout(DRAIN, open.wait()).await.is_err() {
        tracing::warn!(open = open.len(), "connections were still open at the end of the drain time");
    }
    Ok(())
}

async fn handshake(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Box<dyn Connection>> {
    // Small answers must not wait for more data.
    let _ = stream.set_nodelay(true);
    match tls {
        None => Some(Box::new(stream)),
        Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(cause)) => {
                tracing::debug!(%cause, "TLS handshake failed");
                None
            }
            Err(_) => None,
        },
    }
}

/// A connection that fails if its client does not show in time which version of HTTP it speaks. Only once it has do
/// the deadlines of the server itself begin (`hyper_util::server::conn::auto`). One that is dropped before it was shut
/// down in order is cut.
struct Greeted {
    stream: Box<dyn Connection>,
    /// How much of the preface of HTTP/2 has come.
    seen: usize,
    /// `None` once the version is clear.
    deadline: Option<Pin<Box<Sleep>>>,
    in_order: bool,
}

impl Drop for Greeted {
    fn drop(&mut self) {
        if !self.in_order {
            self.stream.cut();
        }
    }
}

impl Greeted {
    fn new(stream: Box<dyn Connection>, patience: Duration) -> Greeted {
        Greeted { stream, seen: 0, deadline: Some(Box::pin(sleep(patience))), in_order: false }
    }
}

impl AsyncRead for Greeted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = to.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(context, to);
        let Some(deadline) = &mut this.deadline else { return result };
        if result.is_pending() {
            return deadline.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        let (read, rest) = (&to.filled()[before..], &PREFACE[this.seen..]);
        match read.len() < rest.len() && rest.starts_with(read) {
            true => this.seen += read.len(),
            false => this.deadline = None,
        }
        result
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_order = true;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connection for Greeted {
    fn cut(&self) {
        self.stream.cut();
    }
}

/// Bytes that the system takes from a connection before they can be sent: a client that takes nothing would else cost it
/// some MiB, of which there are not many for all connections. What was sent and is on its way does not count.
/// Connections have it from their listener.
const MOST_NOT_SENT: u32 = 256 << 10;
const MAX_CONNECTIONS: usize = 12_000;
const HANDSHAKE: Duration = Duration::from_secs(10);
const GREETING: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(5);
/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    impl Connection for tokio::io::DuplexStream {
        fn cut(&self) {}
    }

    #[tokio::test]
    async fn a_client_that_does_not_show_what_it_speaks_is_let_go() {
        let patience = Duration::from_millis(50);
        for (said, waited_for) in
            [(&b""[..], false), (&b"P"[..], false), (&PREFACE[..23], false), (PREFACE, true), (&b"POST / HT"[..], true)]
        {
            let (ours, mut theirs) = tokio::io::duplex(64);
            let mut stream = Greeted::new(Box::new(ours), patience);
            theirs.write_all(said).await.expect("sent");
            let mut read = vec![0; said.len()];
            stream.read_exact(&mut read).await.expect("read");
            let mut more = [0; 8];
            let next = tokio::time::timeout(patience * 4, stream.read(&mut more)).await;
            assert_eq!(next.is_err(), waited_for, "{said:?}");
        }
    }
}
