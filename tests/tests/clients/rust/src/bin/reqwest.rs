//! reqwest with Mozilla's roots inside: it reads no variable, so it is told of the bundle, as the documentation says.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::process::ExitCode;

use reqwest::Certificate;
use reqwest::blocking::multipart::{Form, Part};
use reqwest::blocking::{Client, Response};
use sha2::{Digest, Sha256};

fn main() -> ExitCode {
    match jobs() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

fn jobs() -> Result<(), Box<dyn Error>> {
    let mut client = Client::builder().timeout(None);
    // These are the lines of the documentation.
    if let Ok(bundle) = std::env::var("SSL_CERT_FILE") {
        for root in Certificate::from_pem_bundle(&fs::read(bundle)?)? {
            client = client.add_root_certificate(root);
        }
    }
    let client = client.build()?;

    let variable = |name| std::env::var(name);
    let (name, bulk) = (variable("CLIENT")?, variable("BULK")?);
    let at = |path: &str| format!("{}/m/{name}/{path}", std::env::var("SHOP").unwrap_or_default());
    println!("get {}", client.get(at("get")).send()?.text()?);
    println!("post {}", client.post(at("post")).body(format!("posted by {name}")).send()?.text()?);
    println!("redirect {}", client.get(at("redirect")).send()?.text()?);
    let mut sha = Digesting(Sha256::new());
    client.get(at("download")).send()?.copy_to(&mut sha)?;
    println!("download {:x}", sha.0.finalize());
    println!("upload {}", client.put(at("upload")).body(File::open(bulk)?).send()?.text()?);
    let form = Form::new().part("file", Part::text("hello").file_name("a.txt"));
    let answer: Response = client.post(at("own")).multipart(form).send()?;
    println!("own {:?} {}", answer.version(), answer.status());
    Ok(())
}

struct Digesting(Sha256);

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
