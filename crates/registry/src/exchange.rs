//! One exchange with a host, with the redirects that it asks for. Knows no credentials beyond the header it is given,
//! and sends that to the host it is meant for only.

use crate::answer::{Answer, host_of, transport};
use crate::reach::Reach;
use crate::upload::Source;
use crate::{Client, Error, Result, limits};
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Response, Url};
use std::time::Duration;

/// A request, without its address.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload<'a>,
    /// Time for an answer, where it takes longer than usual.
    pub(crate) wait: Option<Duration>,
}

/// What a request carries.
pub(crate) enum Payload<'a> {
    Nothing,
    Bytes(Bytes),
    /// Not to be seen by another host.
    Confidential(Bytes),
    /// A blob, opened anew for each try.
    Stream(&'a Source<'a>),
}

impl Call<'_> {
    pub(crate) fn new(method: Method) -> Self {
        Self { method, headers: HeaderMap::new(), payload: Payload::Nothing, wait: None }
    }
}

/// Whom a request is meant for.
pub(crate) struct Home {
    /// The registry's address, of which scheme, host and port count.
    pub(crate) base: Url,
    /// How far inside the network it may send us.
    pub(crate) limit: Reach,
    /// How far inside the network it may be itself: anywhere if the user named it, as far as `limit` if a stranger did.
    pub(crate) own: Reach,
}

impl Home {
    /// Whether `url` is on the same host, port and scheme.
    fn holds(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Checks where an answer or challenge sends us.
    ///
    /// # Errors
    /// [`Error::Redirect`].
    pub(crate) fn permits(&self, from: &Url, to: &Url, limit: Reach) -> Result<()> {
        let refused = |reason| {
            let mut target = to.clone();
            target.set_query(None);
            target.set_fragment(None);
            if target.password().is_some() || !target.username().is_empty() {
                target = Url::parse("http://user@hidden").expect("it is a URL");
            }
            Err(Error::Redirect { host: host_of(from), target: target.into(), reason })
        };
        if !matches!(to.scheme(), "http" | "https") || !to.has_host() {
            return refused("only http and https lead anywhere");
        }
        if to.password().is_some() || !to.username().is_empty() {
            return refused("it names a user");
        }
        if from.scheme() == "https" && to.scheme() == "http" {
            return refused("it would give up TLS");
        }
        if to.host_str() != self.base.host_str() && Reach::of_url(to) > limit.max(self.limit) {
            return refused("it is further inside the network than the registry");
        }
        Ok(())
    }
}

impl Client {
    /// Sends `call` to `url` and follows redirects. `authorization` goes to `home` only.
    pub(crate) async fn deliver(
        &self,
        url: Url,
        call: &Call<'_>,
        authorization: Option<&HeaderValue>,
        home: &Home,
    ) -> Result<Answer> {
        let mut url = url;
        let mut reach = None;
        for hop in 0..=limits::REDIRECTS {
            let own = home.holds(&url);
            let limit = if own { home.own } else { home.limit.max(reach.unwrap_or(Reach::Public)) };
            let response = self.hop(&url, call, authorization.filter(|_| own), limit).await?;
            let reach = *reach.get_or_insert_with(|| self.reach_of(&response));
            let Some(location) = redirect(&response, &call.method) else {
                return Ok(Answer::new(response, call.method.clone(), own && hop == 0, reach));
            };
            let next = location.and_then(|location| url.join(location).ok()).ok_or_else(|| {
                Error::Protocol { host: host_of(&url), reason: "a redirect without address".to_owned() }
            })?;
            home.permits(&url, &next, reach)?;
            if matches!(call.payload, Payload::Confidential(_)) && !home.holds(&next) {
                let reason = "credentials do not go to another host";
                return Err(Error::Redirect { host: host_of(&url), target: host_of(&next), reason });
            }
            url = next;
        }
        Err(Error::Protocol { host: host_of(&home.base), reason: "too many redirects".to_owned() })
    }

    /// Who can reach the host that answered. Behind a proxy only its name tells.
    fn reach_of(&self, response: &Response) -> Reach {
        let peer = response.remote_addr().filter(|peer| {
            Some(peer.port()) == response.url().port_or_known_default() && !self.is_proxy_port(peer.port())
        });
        peer.map_or_else(|| Reach::of_url(response.url()), |peer| Reach::of(peer.ip()))
    }

    async fn hop(
        &self,
        url: &Url,
        call: &Call<'_>,
        authorization: Option<&HeaderValue>,
        limit: Reach,
    ) -> Result<Response> {
        let client = self.transport(url, limit).await?;
        let mut request = client.request(call.method.clone(), url.clone()).headers(call.headers.clone());
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let idle = call.wait.unwrap_or(self.timing().idle);
        let sent = match &call.payload {
            Payload::Nothing => tokio::time::timeout(idle, request.send()).await.ok(),
            Payload::Bytes(bytes) | Payload::Confidential(bytes) => {
                // A small body: what it takes to send counts too.
                tokio::time::timeout(idle, request.body(bytes.clone()).send()).await.ok()
            }
            Payload::Stream(source) => {
                let (body, meter) = source.open().await?;
                let sent = meter.attend(request.body(body).send(), idle, self.timing().commit).await;
                source.blame(&meter)?;
                sent
            }
        };
        match sent {
            Some(Ok(response)) => Ok(response),
            Some(Err(source)) => Err(transport(&call.method, url, source)),
            None => Err(Error::Timeout { host: host_of(url), what: "no answer" }),
        }
    }
}

/// Where an answer sends a request of this method: `None` if it does not, `Some(None)` if it forgets to say where.
fn redirect<'a>(response: &'a Response, method: &Method) -> Option<Option<&'a str>> {
    let reading = matches!(*method, Method::GET | Method::HEAD);
    let follow = match response.status().as_u16() {
        301..=303 => reading,
        307 | 308 => true,
        _ => false,
    };
    let location = || response.headers().get(LOCATION)?.to_str().ok().filter(|text| !text.is_empty());
    follow.then(location)
}

/// How long a whole small answer may take.
pub(crate) fn answer_time(client: &Client) -> Duration {
    client.timing().answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn a_registry_sends_no_further_inside_than_it_is() {
        use Reach::{Local, Private, Public};
        let cases = [
            ("https://cdn.test/x", [Public, Private, Local].as_slice()),
            ("https://93.184.216.34/x", &[Public, Private, Local]),
            ("https://10.0.0.5/x", &[Private, Local]),
            ("https://[fd00::1]/x", &[Private, Local]),
            ("https://127.0.0.1/x", &[Local]),
            ("https://2130706433/x", &[Local]),
            ("https://[::ffff:127.0.0.1]/x", &[Local]),
            ("https://localhost:5000/x", &[Local]),
            ("https://169.254.169.254/latest/meta-data", &[Local]),
            ("https://[fe80::1]/x", &[Local]),
            ("https://0.0.0.0/x", &[Local]),
            // The registry itself, wherever it is.
            ("https://registry.test:8443/x", &[Public, Private, Local]),
        ];
        let home = Home { base: url("https://registry.test/"), limit: Public, own: Local };
        for (target, permitted) in cases {
            for reach in [Public, Private, Local] {
                let result = home.permits(&home.base, &url(target), reach);
                assert_eq!(result.is_ok(), permitted.contains(&reach), "{target} from {reach:?}");
            }
        }
        let insecure = Home { base: url("http://registry.test/"), limit: Local, own: Local };
        assert!(insecure.permits(&insecure.base, &url("http://127.0.0.1/x"), Public).is_ok());
    }

    #[test]
    fn tls_is_not_given_up_and_schemes_are_few() {
        let home = Home { base: url("https://registry.test/"), limit: Reach::Local, own: Reach::Local };
        for target in [
            "http://registry.test/x",
            "http://cdn.test/",
            "file:///etc/passwd",
            "https://u:p@cdn.test/",
            "data:,x",
        ] {
            let error = home.permits(&home.base, &url(target), Reach::Local).unwrap_err();
            assert!(matches!(error, Error::Redirect { .. }), "{target}");
            assert!(!error.to_string().contains("u:p"), "{error}");
        }
    }
}
