//! The server's binary under a name of its own, so that the tests beside it find it on a fresh target.

fn main() -> std::process::ExitCode {
    pmesh_server::main()
}
