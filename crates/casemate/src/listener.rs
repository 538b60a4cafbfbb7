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
                serve(Box::new(Bounded::new(stream, GREETING, TAKING)), peer, stop).await;
            }
            drop(place);
        });
    }
    // Whoever comes now is to find the next process, or none: not a place in a queue that nobody serves.
    drop(listener);
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

/// A connection that fails if its client does not show in time which version of HTTP it speaks, or takes nothing of an
/// answer for too long. Only once the version is clear do the deadlines of the server itself begin
/// (`hyper_util::server::conn::auto`), and none of them is about writing. One that is dropped before it was shut down in
/// order is cut.
struct Bounded {
    stream: Box<dyn Connection>,
    /// How much of the preface of HTTP/2 has come.
    seen: usize,
    /// `None` once the version is clear.
    deadline: Option<Pin<Box<Sleep>>>,
    /// How long a write may wait for the client.
    taking: Duration,
    /// Until when the write that waits now may.
    stalled: Option<Pin<Box<Sleep>>>,
    in_order: bool,
}

impl Drop for Bounded {
    fn drop(&mut self) {
        if !self.in_order {
            self.stream.cut();
        }
    }
}

impl Bounded {
    fn new(stream: Box<dyn Connection>, greeting: Duration, taking: Duration) -> Bounded {
        let deadline = Some(Box::pin(sleep(greeting)));
        Bounded { stream, seen: 0, deadline, taking, stalled: None, in_order: false }
    }

    fn wrote<T>(&mut self, result: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let taking = self.taking;
        let deadline = self.stalled.get_or_insert_with(|| Box::pin(sleep(taking)));
        deadline.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Bounded {
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

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(result, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.wrote(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(context);
        self.wrote(result, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(context);
        self.in_order = matches!(result, Poll::Ready(Ok(())));
        self.wrote(result, context)
    }
}

impl Connection for Bounded {
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
/// Longer than the object store's own, which also asks for a least pace.
const TAKING: Duration = Duration::from_secs(60);
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
            let mut stream = Bounded::new(Box::new(ours), patience, TAKING);
            theirs.write_all(said).await.expect("sent");
            let mut read = vec![0; said.len()];
            stream.read_exact(&mut read).await.expect("read");
            let mut more = [0; 8];
            let next = tokio::time::timeout(patience * 4, stream.read(&mut more)).await;
            assert_eq!(next.is_err(), waited_for, "{said:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_of_an_answer_is_let_go_and_a_slow_one_is_not() {
        let taking = Duration::from_secs(1);
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut stream = Bounded::new(Box::new(ours), GREETING, taking);
        let reading = tokio::spawn(async move {
            for _ in 0..5 {
                tokio::time::sleep(taking / 4).await;
                theirs.read_exact(&mut [0; 64]).await.expect("read");
            }
            theirs
        });
        stream.write_all(&[0; 6 * 64]).await.expect("all of it is taken at last");
        let theirs = reading.await.expect("read");
        let refused = stream.write_all(&[0; 64]).await.expect_err("nobody takes it");
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }
}
