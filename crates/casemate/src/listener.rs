//! Accepts connections, with TLS where it is configured, and hands each to its protocol.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::{Listener, Tls},
    failure::{Doing, Failure},
};

/// A byte stream to one client.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for T {}

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
                serve(stream, peer, stop).await;
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

const MAX_CONNECTIONS: usize = 12_000;
const HANDSHAKE: Duration = Duration::from_secs(10);
const DRAIN: Duration = Duration::from_secs(5);
