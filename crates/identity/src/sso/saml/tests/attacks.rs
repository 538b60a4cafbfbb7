use super::{
    Refused,
    answer::{ACS, Answer, IDP, NOW, REQUEST, US, read, read_at},
    signature::{ENVELOPED, EXCLUSIVE},
    signer::{Algorithm, Signer},
    xml::{ASSERTION, PROTOCOL},
};

const EVIL: &str = "admin@example.org";

fn evil() -> Answer {
    Answer { name: EVIL.to_owned(), group: "administrators".to_owned(), ..Answer::default() }
}

/// The text between two marks, the marks included.
fn part(text: &str, from: &str, to: &str) -> String {
    let start = text.find(from).expect(from);
    let end = text[start..].find(to).expect(to) + start + to.len();
    text[start..end].to_owned()
}

fn signature_in(text: &str) -> String {
    part(text, "<ds:Signature", "</ds:Signature>")
}

#[test]
fn an_answer_is_taken_if_response_or_assertion_or_both_are_signed_by_each_kind_of_key() {
    let answer = Answer::default().response();
    for algorithm in [Algorithm::Rsa, Algorithm::P256, Algorithm::P384, Algorithm::P521] {
        let signer = Signer::new(algorithm);
        let assertion = signer.sign(&answer, "_assertion");
        for text in [signer.sign(&answer, "_response"), signer.sign(&assertion, "_response"), assertion] {
            let vouched = read(&signer, &text).expect("a good answer");
            assert_eq!(vouched.name, "ada@example.org");
            assert_eq!(vouched.id, "_assertion");
            assert_eq!(vouched.attributes["http://schemas.xmlsoap.org/claims/Group"], ["analysts"]);
            assert_eq!(vouched.until, "2026-01-01T12:05:00Z".parse().expect("a time"));
        }
    }
    let signer = Signer::new(Algorithm::Rsa);
    for (method, digest) in [("rsa-sha384", "xmldsig-more#sha384"), ("rsa-sha512", "xmlenc#sha512")] {
        let mut way = signer.way();
        way.method = format!("http://www.w3.org/2001/04/xmldsig-more#{method}");
        way.digest = format!("http://www.w3.org/2001/04/{digest}");
        read(&signer, &signer.sign_as(&answer, "_assertion", &way)).expect(method);
    }
}

#[test]
fn an_answer_that_nothing_signed_is_refused() {
    let signer = Signer::new(Algorithm::P256);
    assert_eq!(read(&signer, &Answer::default().response()), Err(Refused::Unsigned));
}

#[test]
fn the_eight_classic_ways_of_wrapping_are_refused() {
    let signer = Signer::new(Algorithm::P256);
    let forged = Answer { response_id: "_forged".to_owned(), assertion_id: "_forged_assertion".to_owned(), ..evil() };
    let unsigned = |text: &str| text.replace("<!--sign _forged-->", "").replace("<!--sign _forged_assertion-->", "");
    let whole = signer.sign(&Answer::default().response(), "_response");
    let whole_signature = signature_in(&whole);
    let bare_whole = whole.replace(&whole_signature, "");
    let original = signer.sign(&Answer::default().response(), "_assertion");
    let assertion = part(&original, "<saml:Assertion", "</saml:Assertion>");
    let signature = signature_in(&assertion);
    let bare = assertion.replace(&signature, "");
    let object =
        |inner: &str| signature.replace("</ds:Signature>", &format!("<ds:Object>{inner}</ds:Object></ds:Signature>"));
    let forged_assertion = unsigned(&forged.assertion());
    let in_response = |inner: &str| {
        let text = unsigned(&forged.response());
        text.replace(&forged_assertion, inner)
    };
    let shapes = [
        // 1: the signed response inside of the signature of a forged one.
        forged.response().replace(
            "<!--sign _forged-->",
            &whole_signature.replace("</ds:Signature>", &format!("<ds:Object>{bare_whole}</ds:Object></ds:Signature>")),
        ),
        // 2: the signed response beside its signature, in a forged one.
        forged.response().replace("<!--sign _forged-->", &format!("{bare_whole}{whole_signature}")),
        // 3: a forged assertion before the signed one.
        in_response(&format!("{forged_assertion}{assertion}")),
        // 4: the signed assertion inside of a forged one.
        in_response(&forged_assertion.replace("</saml:Assertion>", &format!("{assertion}</saml:Assertion>"))),
        // 5: the signature in a forged assertion, the assertion that it is about behind that.
        in_response(&format!("{}{bare}", forged.assertion().replace("<!--sign _forged_assertion-->", &signature))),
        // 6: the same, with that assertion inside of the signature.
        in_response(&forged.assertion().replace(
            "<!--sign _forged_assertion-->",
            &signature.replace("</ds:Signature>", &format!("{bare}</ds:Signature>")),
        )),
        // 7: a forged assertion with the same id in the extensions of the response.
        original.replace(
            "<samlp:Status>",
            &format!(
                "<samlp:Extensions>{}</samlp:Extensions><samlp:Status>",
                forged_assertion.replace("_forged_assertion", "_assertion")
            ),
        ),
        // 8: the signed assertion in an object of the signature in a forged one.
        in_response(&forged.assertion().replace("<!--sign _forged_assertion-->", &object(&bare))),
    ];
    for (number, text) in shapes.iter().enumerate() {
        assert!(text.contains(EVIL) && text.contains("ada@example.org"), "{}: {text}", number + 1);
        let refused = read(&signer, text).expect_err("wrapped");
        assert!(matches!(refused, Refused::Shape(_)), "{}: {refused}", number + 1);
    }
}

#[test]
fn a_signature_is_good_for_the_element_that_it_stands_in_alone() {
    let signer = Signer::new(Algorithm::P256);
    let good = signer.sign(&Answer::default().response(), "_assertion");
    let signature = signature_in(&good);
    // Moved from the assertion to the response.
    let moved = good.replace(&signature, "").replace("<!--sign _response-->", &signature);
    assert!(matches!(read(&signer, &moved), Err(Refused::Signature(_))));
    // Over the response, in the assertion.
    let response = signer.sign(&Answer::default().response(), "_response");
    let signature = signature_in(&response);
    let moved = response.replace(&signature, "").replace("<!--sign _assertion-->", &signature);
    assert!(matches!(read(&signer, &moved), Err(Refused::Signature(_))));
    // Taken from another answer, with another id or with the same.
    for other in [Answer { assertion_id: "_other".to_owned(), ..evil() }, evil()] {
        let signature = signature_in(&good);
        let text = other.response().replace(&format!("<!--sign {}-->", other.assertion_id), &signature);
        assert!(matches!(read(&signer, &text), Err(Refused::Signature(_))));
    }
    // A good one of the assertion does not make up for a bad one of the response.
    let both = signer
        .sign(&good, "_response")
        .replace("Version=\"2.0\" IssueInstant", "Version=\"2.0\"  a=\"b\" IssueInstant");
    assert!(matches!(read(&signer, &both), Err(Refused::Signature(_))));
}

#[test]
fn each_changed_letter_of_what_was_signed_is_seen() {
    let signer = Signer::new(Algorithm::P256);
    let good = signer.sign(&Answer::default().response(), "_response");
    let good = good.replace("<!--sign _assertion-->", "");
    read(&signer, &good).expect("a good answer");
    for (place, letter) in good.char_indices() {
        if !letter.is_ascii_alphanumeric() {
            continue;
        }
        let mut changed = good.clone();
        changed.replace_range(place..place + 1, if letter == 'x' { "y" } else { "x" });
        // Nothing but the names of prefixes in the signature's own envelope could stay good, and none is one letter.
        assert!(
            read(&signer, &changed).is_err(),
            "{}",
            &changed[place.saturating_sub(40)..(place + 20).min(changed.len())]
        );
    }
}

#[test]
fn a_comment_in_a_name_neither_cuts_it_nor_hides_a_part() {
    let signer = Signer::new(Algorithm::P256);
    let answer = Answer { name: "admin@example.org.evil.example".to_owned(), ..Answer::default() };
    let good = signer.sign(&answer.response(), "_assertion");
    for with in [
        "admin@example.org<!-- -->.evil.example",
        "<!---->admin@example.org.evil.example<!-- a -->",
        "admin@example.org<![CDATA[.evil.example]]>",
    ] {
        let text = good.replace("admin@example.org.evil.example", with);
        assert_ne!(text, good);
        // What was signed has no comment, so the signature stays good: what counts is that the whole name is read.
        assert_eq!(read(&signer, &text).expect("the signed name").name, "admin@example.org.evil.example");
    }
    for with in ["admin@example.org<?p?>.evil.example", "admin@example.org<b/>.evil.example"] {
        let text = good.replace("admin@example.org.evil.example", with);
        assert!(read(&signer, &text).is_err(), "{with}");
        // Not even a provider gets away with it.
        let signed = Answer { name: with.to_owned(), ..Answer::default() };
        assert!(read(&signer, &signer.sign(&signed.response(), "_assertion")).is_err(), "{with}");
    }
    // A comment in the digest or in the value of the signature says nothing else than it would without.
    let digest = part(&good, "<ds:DigestValue>", "</ds:DigestValue>");
    let other = signer.sign(&evil().response(), "_assertion");
    let forged = part(&other, "<ds:DigestValue>", "<").replace("<ds:DigestValue>", "").replace('<', "");
    let mixed = digest.replace("<ds:DigestValue>", &format!("<ds:DigestValue>{forged}<!--")).replace("</ds", "--></ds");
    let text = good.replace(&digest, &mixed).replace(">admin@example.org.evil.example<", &format!(">{EVIL}<"));
    assert!(read(&signer, &text).is_err());
}

#[test]
fn a_document_type_refuses_whatever_it_declares() {
    let signer = Signer::new(Algorithm::P256);
    let good = signer.sign(&Answer::default().response(), "_assertion");
    let mut laughs = "<!ENTITY a0 \"ha\">".to_owned();
    for level in 1..30 {
        let before = format!("&a{};", level - 1).repeat(10);
        laughs.push_str(&format!("<!ENTITY a{level} \"{before}\">"));
    }
    for declared in [
        String::new(),
        " [<!ENTITY x SYSTEM \"file:///etc/passwd\">]".to_owned(),
        " [<!ENTITY % x SYSTEM \"http://127.0.0.1:1/evil.dtd\"> %x;]".to_owned(),
        " [<!ATTLIST samlp:Response ID ID #IMPLIED>]".to_owned(),
        format!(" [{laughs}]"),
        " SYSTEM \"http://127.0.0.1:1/evil.dtd\"".to_owned(),
    ] {
        let text = format!("<!DOCTYPE samlp:Response{declared}>{good}");
        assert!(matches!(read(&signer, &text), Err(Refused::Malformed(_))), "{declared}");
    }
    for entity in ["&x;", "&a29;", "&#0;", "&#x1;"] {
        let text = good.replace("ada@example.org", entity);
        assert!(matches!(read(&signer, &text), Err(Refused::Malformed(_))), "{entity}");
    }
}

#[test]
fn what_is_not_a_message_or_too_large_or_too_deep_is_refused() {
    let signer = Signer::new(Algorithm::P256);
    let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
    let deep_extension = Answer {
        extensions: format!("<samlp:Extensions>{}{}</samlp:Extensions>", "<a>".repeat(50), "</a>".repeat(50)),
        ..Answer::default()
    };
    let wide = Answer {
        extensions: format!("<samlp:Extensions>{}</samlp:Extensions>", "<a/>".repeat(60_000)),
        ..Answer::default()
    };
    let attributes: String = (0..300).map(|number| format!(" a{number} = ''")).collect();
    let crowded = Answer::default().response().replace("<samlp:Status>", &format!("<samlp:Status{attributes}>"));
    // Its canonical form would be 300 times as large.
    let spread = Answer::default().response().replace(
        "<samlp:Status>",
        &format!(
            "<samlp:Extensions xmlns:p=\"{}\">{}</samlp:Extensions><samlp:Status>",
            "u".repeat(2000),
            "<p:a/>".repeat(20_000)
        ),
    );
    for text in [
        "",
        "<",
        "no XML",
        "<samlp:Response/>",
        "<a xmlns=\"urn:x\" a=\"1\" a=\"2\"/>",
        &deep,
        &deep_extension.response(),
        &spread,
        &crowded,
        &wide.response(),
    ] {
        assert!(matches!(read(&signer, text), Err(Refused::Malformed(_))), "{}", &text[..text.len().min(40)]);
    }
    assert!(matches!(read(&signer, "<a/>"), Err(Refused::Shape(_))));
    let request = Answer::default().response().replace("samlp:Response", "samlp:LogoutResponse");
    assert!(matches!(read(&signer, &request), Err(Refused::Shape(_))));
}

#[test]
fn several_assertions_or_ids_or_signatures_refuse() {
    let signer = Signer::new(Algorithm::P256);
    let second = Answer { assertion_id: "_second".to_owned(), ..evil() };
    let second = signer.sign(&second.assertion(), "_second");
    for answer in [
        Answer { after_assertion: second.clone(), ..Answer::default() },
        Answer { before_assertion: second.clone(), ..Answer::default() },
        Answer { in_assertion: format!("<saml:Advice>{second}</saml:Advice>"), ..Answer::default() },
        Answer { response_id: "_assertion".to_owned(), ..Answer::default() },
        Answer { in_assertion: "<x xml:id=\"_assertion\"/>".to_owned(), ..Answer::default() },
        Answer {
            extensions: "<samlp:Extensions><x Id=\"_assertion\"/></samlp:Extensions>".to_owned(),
            ..Answer::default()
        },
        Answer {
            after_assertion: format!("<saml:EncryptedAssertion xmlns:saml=\"{ASSERTION}\"/>"),
            ..Answer::default()
        },
    ] {
        // Even if the provider signed it all.
        let text = signer.sign(&answer.response(), &answer.response_id);
        let refused = read(&signer, &text).expect_err("more than there may be");
        assert!(matches!(refused, Refused::Shape(_) | Refused::Encrypted), "{refused}");
    }
    let twice =
        Answer::default().response().replace("<!--sign _assertion-->", "<!--sign _assertion--><!--sign _assertion-->");
    assert!(matches!(read(&signer, &signer.sign(&twice, "_assertion")), Err(Refused::Shape(_))));
}

#[test]
fn only_the_keys_of_the_metadata_are_trusted_and_only_safe_ways_of_signing() {
    let signer = Signer::new(Algorithm::Rsa);
    let answer = Answer::default().response();
    let stranger = Signer::new(Algorithm::Rsa);
    let mut way = stranger.way();
    for key_info in [
        format!(
            "<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>",
            stranger.certificate_text()
        ),
        // The certificate that is trusted, over a value that its key did not make.
        format!(
            "<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>",
            signer.certificate_text()
        ),
        String::new(),
    ] {
        way.key_info = key_info;
        assert!(matches!(read(&signer, &stranger.sign_as(&answer, "_assertion", &way)), Err(Refused::Signature(_))));
    }
    way = signer.way();
    way.key_info = "<ds:KeyInfo><ds:KeyName>any</ds:KeyName></ds:KeyInfo>".to_owned();
    read(&signer, &signer.sign_as(&answer, "_assertion", &way)).expect("what is said of the key is of no account");
    for (method, digest) in [
        ("http://www.w3.org/2000/09/xmldsig#rsa-sha1", "http://www.w3.org/2001/04/xmlenc#sha256"),
        ("http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", "http://www.w3.org/2000/09/xmldsig#sha1"),
        ("http://www.w3.org/2000/09/xmldsig#dsa-sha1", "http://www.w3.org/2001/04/xmlenc#sha256"),
        ("http://www.w3.org/2001/04/xmldsig-more#hmac-sha256", "http://www.w3.org/2001/04/xmlenc#sha256"),
        ("http://www.w3.org/2000/09/xmldsig#hmac-sha1", "http://www.w3.org/2001/04/xmlenc#sha256"),
        ("http://www.w3.org/2001/04/xmldsig-more#rsa-md5", "http://www.w3.org/2001/04/xmlenc#sha256"),
        ("", ""),
    ] {
        let mut way = signer.way();
        (way.method, way.digest) = (method.to_owned(), digest.to_owned());
        let refused = read(&signer, &signer.sign_as(&answer, "_assertion", &way)).expect_err(method);
        assert!(matches!(refused, Refused::Algorithm(_)), "{method}: {refused}");
    }
    // A key of one kind does not verify what another kind is named for.
    let curve = Signer::new(Algorithm::P256);
    let mut way = curve.way();
    way.method = signer.way().method;
    assert!(matches!(read(&curve, &curve.sign_as(&answer, "_assertion", &way)), Err(Refused::Signature(_))));
}

#[test]
fn a_signature_of_another_form_than_samls_is_refused() {
    let signer = Signer::new(Algorithm::P256);
    let answer = Answer::default().response();
    let transform = |uri: &str| format!("<ds:Transform Algorithm=\"{uri}\"></ds:Transform>");
    let both = format!("{}{}", transform(ENVELOPED), transform(EXCLUSIVE));
    let xpath = "<ds:Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xpath-19991116\"><ds:XPath>not(//x)</ds:XPath></ds:Transform>";
    let usual = signer.way();
    let mut ways = Vec::new();
    for reference in
        ["", "#", "_assertion", "#_response", "#xpointer(id('_assertion'))", "#xpointer(/)", "http://127.0.0.1:1/"]
    {
        ways.push(super::signer::Way { reference: Some(reference.to_owned()), ..usual.clone() });
    }
    for transforms in [
        String::new(),
        transform(ENVELOPED),
        transform(EXCLUSIVE),
        format!("{}{}", transform(EXCLUSIVE), transform(ENVELOPED)),
        format!("{xpath}{both}"),
        format!("{both}{xpath}"),
        format!("{}{}", transform(ENVELOPED), transform("http://www.w3.org/TR/1999/REC-xslt-19991116")),
        format!("{}{}", transform(ENVELOPED), transform("http://www.w3.org/2001/10/xml-exc-c14n#WithComments")),
    ] {
        ways.push(super::signer::Way { transforms, ..usual.clone() });
    }
    for canonicalization in
        ["http://www.w3.org/2001/10/xml-exc-c14n#WithComments", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315", ""]
    {
        ways.push(super::signer::Way { canonicalization: canonicalization.to_owned(), ..usual.clone() });
    }
    let many: String = (0..17).map(|number| format!("p{number} ")).collect();
    let list =
        format!("<ec:InclusiveNamespaces xmlns:ec=\"{EXCLUSIVE}\" PrefixList=\"{many}\"></ec:InclusiveNamespaces>");
    let transforms = both.replacen("></ds:Transform>", &format!(">{list}</ds:Transform>"), 2);
    ways.push(super::signer::Way { transforms, ..usual.clone() });
    ways.push(super::signer::Way { more: "<ds:Object/>".to_owned(), ..usual.clone() });
    for way in ways {
        let refused = read(&signer, &signer.sign_as(&answer, "_assertion", &way)).expect_err("another form");
        assert!(matches!(refused, Refused::Signature(_)), "{way:?}: {refused}");
    }
    // Two references; none.
    let good = signer.sign(&answer, "_assertion");
    let reference = part(&good, "<ds:Reference", "</ds:Reference>");
    for with in [format!("{reference}{reference}"), String::new()] {
        assert!(matches!(read(&signer, &good.replace(&reference, &with)), Err(Refused::Signature(_))));
    }
}

#[test]
fn each_thing_that_is_for_somebody_else_is_refused_by_its_name() {
    let signer = Signer::new(Algorithm::P256);
    let recipient = format!("Recipient=\"{ACS}\"");
    let audience = format!("<saml:Audience>{US}</saml:Audience>");
    let destination = format!("Destination=\"{ACS}\"");
    let in_response = format!("InResponseTo=\"{REQUEST}\"");
    let data = format!("Recipient=\"{ACS}\" InResponseTo=\"{REQUEST}\"");
    let restriction = format!("<saml:AudienceRestriction>{audience}</saml:AudienceRestriction>");
    for (from, to, what) in [
        (recipient.as_str(), "Recipient=\"https://other.example/acs\"", "Recipient"),
        (recipient.as_str(), "", "Recipient"),
        (audience.as_str(), "<saml:Audience>https://other.example</saml:Audience>", "Audience"),
        (audience.as_str(), "", "Audience"),
        (restriction.as_str(), "", "Audience"),
        (
            restriction.as_str(),
            &format!(
                "{restriction}<saml:AudienceRestriction><saml:Audience>x</saml:Audience></saml:AudienceRestriction>"
            ),
            "Audience",
        ),
        (destination.as_str(), "Destination=\"https://other.example/acs\"", "Destination"),
        (destination.as_str(), "", "Destination"),
        (&format!("{destination} {in_response}"), &destination, "InResponseTo"),
        (&format!("{destination} {in_response}"), &format!("{destination} InResponseTo=\"_other\""), "InResponseTo"),
        (data.as_str(), &recipient, "InResponseTo"),
        (data.as_str(), &format!("{recipient} InResponseTo=\"_other\""), "InResponseTo"),
        (&format!("<saml:Issuer>{IDP}</saml:Issuer>"), "<saml:Issuer>https://evil.example/</saml:Issuer>", "Issuer"),
        (
            &format!("<saml:Issuer xmlns:saml=\"{ASSERTION}\">{IDP}</saml:Issuer>"),
            &format!("<saml:Issuer xmlns:saml=\"{ASSERTION}\">https://evil.example/</saml:Issuer>"),
            "Issuer",
        ),
    ] {
        let answer = Answer::default().with(from, to);
        assert_ne!(answer.response(), Answer::default().response(), "{from}");
        let text = signer.sign(&answer.response(), "_response");
        match read(&signer, &text) {
            Err(Refused::Different { what: named, .. }) => assert_eq!(named, what, "{to}"),
            other => panic!("{to}: {other:?}"),
        }
    }
}

#[test]
fn what_a_response_must_say_is_not_left_out() {
    let signer = Signer::new(Algorithm::P256);
    for (from, to) in [
        ("Version=\"2.0\"", "Version=\"1.1\""),
        ("IssueInstant=", "Other="),
        ("cm:bearer", "cm:holder-of-key"),
        ("cm:bearer", "cm:sender-vouches"),
        ("<saml:NameID>ada@example.org</saml:NameID>", ""),
        ("<saml:NameID>ada@example.org</saml:NameID>", "<saml:NameID> </saml:NameID>"),
        (" NotOnOrAfter=\"2026-01-01T12:05:00Z\"", ""),
        ("NotOnOrAfter=\"2026-01-01T12:05:00Z\"", "NotOnOrAfter=\"tomorrow\""),
        ("<saml:Conditions ", "<saml:Condition "),
        ("saml:AuthnStatement", "saml:OtherStatement"),
        ("</saml:Conditions>", "<saml:Condition/></saml:Conditions>"),
        ("</saml:Subject>", "</saml:Subject><saml:Subject><saml:NameID>x</saml:NameID></saml:Subject>"),
        ("<saml:Attribute Name=", "<saml:Attribute Other="),
    ] {
        let mut answer = Answer::default().with(from, to);
        if from.contains("Conditions ") {
            answer = answer.with("</saml:Conditions>", "</saml:Condition>");
        }
        assert_ne!(answer.response(), Answer::default().response(), "{from}");
        assert!(read(&signer, &signer.sign(&answer.response(), "_response")).is_err(), "{to}");
    }
}

#[test]
fn an_answer_is_good_in_its_time_alone_with_a_minute_for_the_clocks() {
    let signer = Signer::new(Algorithm::P256);
    let good = signer.sign(&Answer::default().response(), "_response");
    for (now, good_then) in [
        ("2026-01-01T11:58:59Z", false),
        ("2026-01-01T11:59:00Z", true),
        (NOW, true),
        ("2026-01-01T12:05:59Z", true),
        ("2026-01-01T12:06:00Z", false),
        ("2027-01-01T12:00:00Z", false),
    ] {
        let read = read_at(&signer, &good, now);
        assert_eq!(read.is_ok(), good_then, "{now}: {read:?}");
    }
    // Each of the three times by itself.
    for (answer, now) in [
        (Answer::default().with("NotBefore=\"2026-01-01T11:59:00Z\"", "NotBefore=\"2026-01-01T12:01:01Z\""), NOW),
        (Answer::default().with("NotOnOrAfter=\"2026-01-01T13:00:00Z\"", "NotOnOrAfter=\"2026-01-01T11:59:00Z\""), NOW),
        (Answer::default().with("NotOnOrAfter=\"2026-01-01T12:05:00Z\"", "NotOnOrAfter=\"2026-01-01T11:59:00Z\""), NOW),
        (
            Answer::default()
                .with("<saml:AuthnStatement ", "<saml:AuthnStatement SessionNotOnOrAfter=\"2026-01-01T11:00:00Z\" "),
            NOW,
        ),
        (Answer::default(), "2026-01-01T11:58:00Z"),
    ] {
        let refused = read_at(&signer, &signer.sign(&answer.response(), "_response"), now).expect_err("another time");
        assert!(matches!(refused, Refused::NotYet(_) | Refused::Over(_)), "{refused}");
    }
}

#[test]
fn a_provider_that_says_no_is_quoted() {
    let signer = Signer::new(Algorithm::P256);
    let text = format!(
        "<samlp:Response xmlns:samlp=\"{PROTOCOL}\" ID=\"_r\" Version=\"2.0\" IssueInstant=\"{NOW}\" Destination=\"{ACS}\" \
         InResponseTo=\"{REQUEST}\"><samlp:Status><samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:Responder\">\
         <samlp:StatusCode Value=\"urn:oasis:names:tc:SAML:2.0:status:AuthnFailed\"/></samlp:StatusCode></samlp:Status>\
         </samlp:Response>"
    );
    let refused = read(&signer, &text).expect_err("a refusal");
    assert!(matches!(&refused, Refused::Status(said) if said.ends_with("AuthnFailed")), "{refused}");
    // With an assertion beside it, it is a refusal still.
    let answer = Answer { status: "<samlp:StatusCode Value=\"urn:x\"/>".to_owned(), ..Answer::default() };
    assert!(matches!(read(&signer, &signer.sign(&answer.response(), "_assertion")), Err(Refused::Status(_))));
    let answer = Answer { status: String::new(), ..Answer::default() };
    assert!(matches!(read(&signer, &signer.sign(&answer.response(), "_assertion")), Err(Refused::Shape(_))));
}

#[test]
fn an_encrypted_assertion_is_refused_by_name() {
    let signer = Signer::new(Algorithm::P256);
    let answer = Answer::default();
    let text = answer.response().replace(
        &answer.assertion(),
        &format!("<saml:EncryptedAssertion xmlns:saml=\"{ASSERTION}\"><x/></saml:EncryptedAssertion>"),
    );
    assert_eq!(read(&signer, &signer.sign(&text, "_response")), Err(Refused::Encrypted));
    assert!(Refused::Encrypted.to_string().contains("switch encryption off"));
}

#[test]
fn what_is_said_of_a_refusal_holds_no_control_character_and_ends() {
    let signer = Signer::new(Algorithm::P256);
    let long = format!("Destination=\"{}&#10;{}\"", "a".repeat(50), "b".repeat(5000));
    let answer = Answer::default().with(&format!("Destination=\"{ACS}\""), &long);
    let said = read(&signer, &signer.sign(&answer.response(), "_assertion")).expect_err("elsewhere").to_string();
    assert!(said.len() < 400 && !said.contains('\n'), "{said}");
}

proptest::proptest! {
    #[test]
    fn no_cut_or_copy_of_a_good_answer_says_what_no_provider_signed(
        good in 0_u8..4,
        edits in proptest::collection::vec(proptest::prelude::any::<u8>(), 4..64),
    ) {
        let bytes = [&[good][..], &edits[..]].concat();
        super::super::fuzzing::saml_response(&bytes);
    }

    #[test]
    fn no_text_is_believed_or_ends_the_service(text in "[<>/a-z&;#!=\"'\\[\\]? -]{0,300}") {
        super::super::fuzzing::saml_response(&[&[255][..], text.as_bytes()].concat());
    }
}
