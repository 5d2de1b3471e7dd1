//! A private MariaDB for tests: made from nothing, on a port of its own, gone with the process that asked for it.
//!
//! A shell stands between: it ends the server, by its id and at once, as soon as its standard input ends, and that happens
//! however this process ends. Needs Debian's `mariadb-server-core`; without it a test says so and is skipped, and with `CI`
//! set it fails.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

/// Generous: two cores may run all test binaries together.
const PATIENCE: Duration = Duration::from_secs(60);
/// Ports tried; between choosing one and using it somebody else may take it.
const PORTS_TRIED: u32 = 5;
/// The gateway's user. No SUPER, so that `read_only` holds for it.
pub(crate) const USER: &str = "im";
/// Its password, with what a URL cannot hold as it stands.
pub(crate) const PASSWORD: &str = "p@ss/w0rd+1";
/// The same in a URL.
const PASSWORD_IN_URL: &str = "p%40ss%2Fw0rd+1";
/// Who may do everything.
const ADMIN: &str = "admin";
const ADMIN_PASSWORD: &str = "admin-of-a-test";

/// Ends the server when its own input ends; a line of input first means that the files are still wanted.
const GUARDIAN: &str = r#"
dir="$1"; shift
"$@" </dev/null >/dev/null 2>&1 &
server=$!
echo "$server"
if read -r line; then keep=yes; else keep=no; fi
kill -9 "$server" 2>/dev/null
wait "$server" 2>/dev/null
[ "$keep" = yes ] || rm -rf "$dir"
"#;

/// See [`Server::hostile`].
const HOSTILE_GLOBALS: &[&str] = &[
    "sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,ONLY_FULL_GROUP_BY,NO_ZERO_DATE,NO_ZERO_IN_DATE,\
     ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO,NO_UNSIGNED_SUBTRACTION,HIGH_NOT_PRECEDENCE,\
     EMPTY_STRING_IS_NULL'",
    "autocommit = 0",
    "completion_type = 'CHAIN'",
    "tx_isolation = 'SERIALIZABLE'",
    "tx_read_only = 1",
    "sql_safe_updates = 1",
    "sql_select_limit = 1",
    "sql_auto_is_null = 1",
    "max_join_size = 1",
    "sql_big_selects = 0",
    "unique_checks = 0",
    "foreign_key_checks = 0",
    "time_zone = '+05:45'",
    "character_set_server = latin1",
    "character_set_client = latin1",
    "character_set_connection = latin1",
    "character_set_results = latin1",
    "init_connect = 'SET NAMES latin1'",
    "wait_timeout = 2",
    "interactive_timeout = 1",
    "net_read_timeout = 1",
    "net_write_timeout = 1",
    "innodb_lock_wait_timeout = 1",
    "lock_wait_timeout = 1",
    "idle_transaction_timeout = 1",
    "max_statement_time = 2",
    "max_session_mem_used = 1048576",
    "max_sort_length = 64",
    "group_concat_max_len = 4",
    "div_precision_increment = 0",
    "auto_increment_increment = 2",
    "auto_increment_offset = 2",
    "default_storage_engine = MyISAM",
    "query_cache_type = 1",
    "low_priority_updates = 1",
];

/// A running server.
pub(crate) struct Server {
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    extra: Vec<String>,
    guardian: Option<Child>,
    databases: AtomicU32,
}

impl Server {
    /// One for all tests of this process, or `None` where there is no MariaDB.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Server>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[])).as_ref()
    }

    /// One for all tests of this process whose administrator has set every variable against us that a session may set
    /// for itself, or `None` where there is no MariaDB.
    pub(crate) fn hostile() -> Option<&'static Self> {
        static HOSTILE: OnceLock<Option<Server>> = OnceLock::new();
        let start = || {
            let server = Self::start(&["--skip-character-set-client-handshake".to_owned()])?;
            let globals: Vec<String> = HOSTILE_GLOBALS.iter().map(|one| format!("GLOBAL {one}")).collect();
            server.run(&format!("SET {}", globals.join(", ")));
            Some(server)
        };
        HOSTILE.get_or_init(start).as_ref()
    }

    /// One for a test that does to it what others would not like.
    pub(crate) fn start(extra: &[String]) -> Option<Self> {
        let Some(program) = program() else {
            let text = "MariaDB is missing: please install mariadb-server-core (scripts/test.sh does)";
            assert!(std::env::var_os("CI").is_none(), "{text}");
            eprintln!("SKIPPED: {text}");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("imgate-mariadb").tempdir().expect("a temporary directory").keep();
        let extra = extra.to_vec();
        let mut server = Self { program, dir, port: 0, extra, guardian: None, databases: AtomicU32::new(0) };
        server.make_system_tables();
        for _ in 0..PORTS_TRIED {
            server.port = free_port();
            if server.launch() {
                return Some(server);
            }
        }
        panic!("MariaDB does not start:\n{}", server.log());
    }

    /// What Debian's `mariadb-install-db` does, without the package of its other tools.
    fn make_system_tables(&self) {
        fs::create_dir_all(self.data().join("mysql")).expect("a directory");
        let mut sql = String::from("USE mysql;\n");
        for name in ["system_tables.sql", "performance_tables.sql", "system_tables_data.sql"] {
            let texts = ["mysql", "mariadb"]
                .iter()
                .flat_map(|dir| ["mysql", "mariadb"].map(|prefix| format!("/usr/share/{dir}/{prefix}_{name}")));
            let text = texts.map(fs::read_to_string).find_map(Result::ok);
            sql.push_str(&text.unwrap_or_else(|| panic!("MariaDB's {name} is missing")));
            sql.push('\n');
        }
        let script = self.dir.join("bootstrap.sql");
        fs::write(&script, sql).expect("a file");
        let log = File::create(self.dir.join("bootstrap.log")).expect("a file");
        let made = self
            .command()
            .args(self.extra.iter().filter(|option| option.starts_with("--innodb")))
            .arg("--bootstrap")
            .stdin(File::open(&script).expect("the script"))
            .stdout(Stdio::null())
            .stderr(log)
            .status()
            .expect("MariaDB runs");
        let log = fs::read_to_string(self.dir.join("bootstrap.log")).unwrap_or_default();
        assert!(made.success(), "MariaDB cannot make its tables:\n{log}");
        let users = format!(
            "CREATE USER IF NOT EXISTS '{ADMIN}'@'127.0.0.1' IDENTIFIED BY '{ADMIN_PASSWORD}';\n\
             GRANT ALL ON *.* TO '{ADMIN}'@'127.0.0.1' WITH GRANT OPTION;\n\
             CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
        );
        fs::write(self.dir.join("users.sql"), users).expect("a file");
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--no-defaults").arg(format!("--datadir={}", self.data().display()));
        if rustix::process::geteuid().is_root() {
            command.arg("--user=root");
        }
        command.args(["--innodb-log-file-size=32M", "--innodb-buffer-pool-size=64M"]);
        // A server that starts removes the temporary tables of all others that share the directory.
        command.arg(format!("--tmpdir={}", self.dir.display()));
        command
    }

    /// Starts the server and waits until it answers. `false`: it ended, most likely because the port was taken.
    fn launch(&mut self) -> bool {
        let dir = self.dir.display();
        let mut server = self.command();
        server.args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--performance-schema=off"]);
        server.args([format!("--port={}", self.port), format!("--socket={dir}/socket")]);
        server.args([format!("--pid-file={dir}/pid"), format!("--log-error={dir}/error.log")]);
        server.args([format!("--init-file={dir}/users.sql")]).args(&self.extra);
        let mut guardian = Command::new("sh");
        guardian.args(["-c", GUARDIAN, "guardian"]).arg(&self.dir).arg(server.get_program()).args(server.get_args());
        let mut guardian =
            guardian.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell for the server");
        let mut line = String::new();
        let said = BufReader::new(guardian.stdout.take().expect("its output")).read_line(&mut line);
        self.guardian = Some(guardian);
        let pid = said.ok().and_then(|_| line.trim().parse().ok()).and_then(rustix::process::Pid::from_raw);
        let pid = pid.unwrap_or_else(|| panic!("the shell tells the server's id: {line:?}"));
        let until = Instant::now() + PATIENCE;
        while self.connect_as_admin().is_err() {
            assert!(Instant::now() < until, "MariaDB does not answer:\n{}", self.log());
            // Until its shell has waited for it, a server that ended is there as a zombie.
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                self.end(true);
                return false;
            }
            thread::park_timeout(Duration::from_millis(10));
        }
        true
    }

    /// Kills the server as `kill -9` does. What it had committed is on the disk.
    pub(crate) fn kill(&mut self) {
        self.end(true);
    }

    /// Starts it again, on the same port and the same files.
    pub(crate) fn start_again(&mut self) {
        assert!(self.guardian.is_none(), "it was killed before");
        assert!(self.launch(), "MariaDB does not start again:\n{}", self.log());
    }

    /// Starts it anew with other options.
    pub(crate) fn restart_with(&mut self, extra: &[String]) {
        self.kill();
        self.extra = extra.to_vec();
        self.start_again();
    }

    fn end(&mut self, keep_files: bool) {
        if let Some(mut guardian) = self.guardian.take() {
            if let Some(mut input) = guardian.stdin.take()
                && keep_files
            {
                input.write_all(b"keep\n").expect("the shell listens");
            }
            guardian.wait().expect("the shell ends");
        } else if !keep_files {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("error.log")).unwrap_or_default()
    }

    /// Its directory, for files that a test gives it.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn connect_as_admin(&self) -> mysql::Result<Conn> {
        let opts = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(self.port).prefer_socket(false);
        let opts = opts.user(Some(ADMIN)).pass(Some(ADMIN_PASSWORD)).read_timeout(Some(PATIENCE));
        let opts =
            opts.init(vec!["SET SESSION autocommit = 1, tx_read_only = 0, max_statement_time = 0, sql_mode = ''"]);
        Conn::new(opts.tcp_connect_timeout(Some(PATIENCE)))
    }

    /// A connection that may do everything.
    pub(crate) fn admin(&self) -> Conn {
        self.connect_as_admin().unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// Runs one statement as the one who may do everything.
    pub(crate) fn run(&self, sql: &str) {
        self.admin().query_drop(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The name of a fresh database which the gateway's user may fill.
    pub(crate) fn database(&self) -> String {
        let name = format!("im_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut admin = self.admin();
        for sql in [
            // Another collation than ours: what is compared exactly must not depend on it.
            format!("CREATE DATABASE {name} CHARACTER SET latin1 COLLATE latin1_swedish_ci"),
            format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP ON {name}.* TO '{USER}'@'127.0.0.1'"
            ),
        ] {
            admin.query_drop(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        name
    }

    /// The URL of a database for the gateway.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("mysql://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{}/{database}", self.port)
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// The server, which may stand where only root looks.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    dirs.extend(["/usr/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from));
    dirs.into_iter().map(|dir| dir.join("mariadbd")).find(|program| program.is_file())
}

/// A port that nobody uses now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}
