//! A TCP proxy that records every byte between clients and a server.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use crate::Result;

/// A recording proxy. Its threads end with the process.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: String,
    record: Arc<Mutex<Vec<u8>>>,
}

impl Proxy {
    /// Takes connections on a free port and passes them on to `target()`.
    ///
    /// # Errors
    /// There is no free port.
    pub fn start(target: impl Fn() -> String + Send + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let record = Arc::new(Mutex::new(Vec::new()));
        let proxy = Self { address, record };
        let passing = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(std::io::Result::ok) {
                if let Ok(server) = TcpStream::connect(target()) {
                    passing.pass(client, server);
                }
            }
        });
        Ok(proxy)
    }

    /// The proxy's address as clients name it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that was said in both directions so far.
    #[must_use]
    pub fn recorded(&self) -> Vec<u8> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn pass(&self, client: TcpStream, server: TcpStream) {
        let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else {
            return;
        };
        for (from, to) in [(client, server), (server_too, client_too)] {
            let record = Arc::clone(&self.record);
            thread::spawn(move || copy(from, to, &record));
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, record: &Mutex<Vec<u8>>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..length).unwrap_or_default();
        record.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
}
