//! The configuration of a shield.

use std::path::Path;

use http::{HeaderMap, Uri};
use node::config::{
    self, Common, ConfigError, Effective, Files, Parent, Section, Source, flag, host, quoted,
    read_headers, read_parents,
};
use node::node::NodeConfig;
use node::rules::QueryRule;
use node::upstream::{ParentConfig, Selection};

/// The configuration of a shield, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What every node has.
    pub common: Common,
    /// The parents, primaries before backups: the first healthy one is asked.
    pub origins: Vec<Origin>,
}

/// An origin as a shield sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// Its name, its URL, and how it is spoken to.
    pub parent: Parent,
    /// Whether it is asked only when no primary answers.
    pub backup: bool,
    /// The `Host` sent instead of the viewer's.
    pub host: Option<String>,
    /// Header fields added to every request, e.g. a shared secret. Their values are marked sensitive.
    pub headers: HeaderMap,
}

impl Origin {
    /// Returns a primary origin at `url`.
    pub fn at(name: impl Into<String>, url: Uri) -> Self {
        let parent = Parent::at(name, url);
        Self {
            parent,
            backup: false,
            host: None,
            headers: HeaderMap::new(),
        }
    }
}

impl Config {
    /// Returns the defaults for a shield called `name` with these parents; it listens nowhere yet.
    pub fn new(name: impl Into<String>, origins: Vec<Origin>) -> Self {
        Self {
            common: Common::named(name),
            origins,
        }
    }

    /// Loads the file at `path`.
    ///
    /// # Errors
    ///
    /// Every problem at once, each with its line, key, and what is allowed.
    pub fn load(path: &Path, files: Files) -> Result<Self, ConfigError> {
        config::load(path, files, Self::read)
    }

    /// Parses `text`.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn parse(text: &str, source: &Source) -> Result<Self, ConfigError> {
        config::parse(text, source, Self::read)
    }

    fn read(root: &mut Section<'_>) -> Self {
        root.refuse(
            "shield",
            "does not belong to a shield",
            "a shield's parents are [[origin]]",
        );
        root.refuse(
            "viewers",
            "does not belong to a shield",
            "viewers talk to edges, which have this table",
        );
        // Edges have normalized what viewers sent; a shield takes it as it comes.
        let common = Common::read(root, &QueryRule::default());
        let origins = read_parents(root, "origin", EXAMPLE, |parent, section| Origin {
            parent,
            backup: section.value("backup", false, flag),
            host: section.optional("host", host),
            headers: read_headers(section.table("headers")),
        });
        if !origins.is_empty() && origins.iter().all(|origin| origin.backup) {
            root.wrong(
                "origin",
                "has only backups",
                "at least one without backup = true",
            );
        }
        Self {
            common,
            origins: primaries_first(origins),
        }
    }

    /// Returns the configuration of the node that this shield is.
    pub fn into_node_config(self) -> NodeConfig {
        let origins = primaries_first(self.origins);
        let parents = origins
            .into_iter()
            .map(Origin::into_parent_config)
            .collect();
        self.common
            .into_node_config(parents, Selection::Ordered, false, QueryRule::default())
    }

    /// Returns the configuration in effect as text: what the file says and every default, without
    /// secrets.
    pub fn effective(&self) -> String {
        let mut effective = Effective::of(&self.common);
        for origin in &self.origins {
            effective.member("origin");
            effective.parent(&origin.parent);
            effective.line("backup", origin.backup);
            if let Some(host) = &origin.host {
                effective.line("host", quoted(host));
            }
            if !origin.headers.is_empty() {
                effective.table("origin.headers");
            }
            for name in origin.headers.keys() {
                effective.line(name.as_str(), quoted("(secret)"));
            }
        }
        effective.into_text()
    }
}

impl Origin {
    fn into_parent_config(self) -> ParentConfig {
        let Self {
            parent,
            host,
            headers,
            ..
        } = self;
        ParentConfig {
            host,
            headers,
            ..parent.into_parent_config()
        }
    }
}

fn primaries_first(mut origins: Vec<Origin>) -> Vec<Origin> {
    // Stable: within each group the order of the file decides.
    origins.sort_by_key(|origin| origin.backup);
    origins
}

const EXAMPLE: &str = "add\n  [[origin]]\n  name = \"packager\"\n  url = \"http://10.0.0.9:8080\"";

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn source() -> Source {
        Source {
            name: "shield.toml".into(),
            directory: PathBuf::new(),
            files: Files::NotChecked,
        }
    }

    const TEXT: &str = r#"
        name = "shield-1"
        [listen]
        http = ["10.0.0.1:8080"]
        workers = 2
        [[rule]]
        name = "clips"
        paths = ["/vod/**/*.mp4"]
        [[origin]]
        name = "spare"
        url = "https://spare.example"
        backup = true
        [[origin]]
        name = "packager"
        url = "http://10.0.0.9:8080"
        host = "Live.Example"
        headers = { X-Origin-Secret = "s3cret" }
    "#;

    #[test]
    fn primaries_come_before_backups_whatever_the_order_of_the_file() {
        let node = Config::parse(TEXT, &source()).unwrap().into_node_config();
        let names: Vec<&str> = node
            .upstream
            .parents
            .iter()
            .map(|p| p.name.as_str())
            .collect();
        assert_eq!(names, ["packager", "spare"]);
        assert_eq!(node.upstream.selection, Selection::Ordered);
        assert_eq!(
            node.upstream.parents[0].host.as_deref(),
            Some("live.example")
        );
        assert!(
            !node.cors && node.rules.fallback.query == QueryRule::default() && !node.listen.http3
        );
    }

    #[test]
    fn secrets_are_in_neither_debug_nor_the_configuration_in_effect() {
        let config = Config::parse(TEXT, &source()).unwrap();
        assert_eq!(config.origins[0].headers["x-origin-secret"], "s3cret");
        assert!(!format!("{config:?}").contains("s3cret"));
        assert!(!config.effective().contains("s3cret"));
        assert!(!format!("{:?}", config.into_node_config()).contains("s3cret"));
    }

    #[test]
    fn a_secret_can_stand_in_a_file_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("secret"), "from-a-file\n").unwrap();
        let path = directory.path().join("shield.toml");
        fs::write(&path, TEXT.replace("\"s3cret\"", "{ file = \"secret\" }")).unwrap();
        let config = Config::load(&path, Files::MustExist).unwrap();
        assert_eq!(config.origins[0].headers["x-origin-secret"], "from-a-file");
    }

    #[test]
    fn the_configuration_in_effect_is_itself_a_configuration() {
        let mut config = Config::parse(TEXT, &source()).unwrap();
        config.origins[0].headers.clear();
        let again = Config::parse(&config.effective(), &source()).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn every_key_is_documented() {
        let page = include_str!("../../docs/configuration.md");
        let keys = config::known_keys(TEXT, Config::read);
        assert_eq!(config::undocumented(page, keys), Vec::<String>::new());
    }
}
