//! What is checked out, and what its remote offered at the last fetch, of the repository that tracks a file:
//!
//! ```text
//! cargo run -p pmesh-vcs --example heads -- README.md
//! ```

use std::{env, error::Error, path::Path};

use pmesh_vcs::{Cancel, Vcs as _, git::GitRepo};

fn main() -> Result<(), Box<dyn Error>> {
    let file = env::args().nth(1).ok_or("usage: heads FILE")?;
    let heads = GitRepo::discover(Path::new(&file))?.heads(&Cancel::new())?;
    let commit = |commit: Option<pmesh_vcs::CommitId>| commit.map_or("none".to_owned(), |id| id.to_string());
    println!("head {}", commit(heads.head.commit));
    println!("remote {}", commit(heads.remote_head.and_then(|head| head.commit)));
    Ok(())
}
