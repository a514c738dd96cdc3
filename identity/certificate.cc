// Makes and reads X.509 with OpenSSL 3.
#include "identity/certificate.h"

#include <arpa/inet.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace firedrill {
namespace {

// An hour for clocks that are late.
constexpr absl::Duration kEarlier = absl::Hours(1);
constexpr int kSerialBytes = 16;
constexpr size_t kMostRevoked = 100000;

template <auto kFree>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using X509Ptr = std::unique_ptr<X509, Freer<X509_free>>;
using Crl = std::unique_ptr<X509_CRL, Freer<X509_CRL_free>>;
using Bio = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using Number = std::unique_ptr<BIGNUM, Freer<BN_free>>;
using Integer = std::unique_ptr<ASN1_INTEGER, Freer<ASN1_INTEGER_free>>;
using Time = std::unique_ptr<ASN1_TIME, Freer<ASN1_TIME_free>>;
using Names = std::unique_ptr<GENERAL_NAMES, Freer<GENERAL_NAMES_free>>;

// The first of OpenSSL's errors, and none is left for whoever asks next.
absl::Status Failed(absl::string_view doing) {
  char words[200] = "no reason given";
  if (const unsigned long error = ERR_get_error(); error != 0) {
    ERR_error_string_n(error, words, sizeof(words));
  }
  ERR_clear_error();
  return absl::InternalError(absl::StrCat(doing, ": ", words));
}

template <typename Write>
absl::StatusOr<std::string> ToPem(absl::string_view what, Write write) {
  const Bio bio(BIO_new(BIO_s_mem()));
  if (bio == nullptr || write(bio.get()) != 1) return Failed(absl::StrCat("writing ", what));
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

// No key of ours has a password, and none is asked for on a terminal.
int NoPassword(char*, int, int, void*) { return 0; }

template <typename Pointer, typename Read>
absl::StatusOr<Pointer> FromPem(absl::string_view what, absl::string_view pem, Read read) {
  const Bio bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  Pointer object(bio == nullptr ? nullptr : read(bio.get(), nullptr, NoPassword, nullptr));
  ERR_clear_error();
  if (object == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("this is no ", what, " in PEM"));
  }
  return object;
}

absl::StatusOr<X509Ptr> CertificateFrom(absl::string_view pem) {
  return FromPem<X509Ptr>("certificate", pem, PEM_read_bio_X509);
}
absl::StatusOr<Key> KeyFrom(absl::string_view pem) {
  return FromPem<Key>("private key", pem, PEM_read_bio_PrivateKey);
}

absl::StatusOr<absl::Time> FromAsn1(const ASN1_TIME* time) {
  tm broken{};
  if (ASN1_TIME_to_tm(time, &broken) != 1) return Failed("reading a time");
  return absl::FromTM(broken, absl::UTCTimeZone());
}

Time ToAsn1(absl::Time time) { return Time(ASN1_TIME_set(nullptr, absl::ToTimeT(time))); }

std::string SerialText(const ASN1_INTEGER* serial) {
  const Number number(ASN1_INTEGER_to_BN(serial, nullptr));
  char* text = number == nullptr ? nullptr : BN_bn2hex(number.get());
  if (text == nullptr) return "";
  std::string serial_text = text;
  OPENSSL_free(text);
  return serial_text;
}

absl::Status SetSerial(X509* certificate) {
  const Number number(BN_new());
  // One bit less: it must not be negative.
  if (number == nullptr ||
      BN_rand(number.get(), kSerialBytes * 8 - 1, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) != 1 ||
      BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) == nullptr) {
    return Failed("drawing a serial number");
  }
  return absl::OkStatus();
}

absl::Status Extend(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  const bool added = extension != nullptr && X509_add_ext(certificate, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return added ? absl::OkStatus() : Failed(absl::StrCat("adding ", value));
}

struct Template {
  std::string common_name;
  absl::Time from, to;
  X509* issuer = nullptr;
  EVP_PKEY* issuer_key = nullptr;
  std::vector<std::pair<int, std::string>> extensions;
};

// A new key and its certificate; an authority signs itself.
absl::StatusOr<KeyPair> Sign(const Template& wanted) {
  const Key key(EVP_EC_gen("P-256"));
  const X509Ptr certificate(X509_new());
  if (key == nullptr || certificate == nullptr) return Failed("making a key");
  X509* const self = certificate.get();
  X509* const issuer = wanted.issuer == nullptr ? self : wanted.issuer;
  RETURN_IF_ERROR(SetSerial(self));
  X509_NAME* const name = X509_get_subject_name(self);
  if (X509_set_version(self, X509_VERSION_3) != 1 ||
      X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(wanted.common_name.c_str()),
                                 -1, -1, 0) != 1 ||
      X509_set_issuer_name(self, X509_get_subject_name(issuer)) != 1 ||
      X509_set1_notBefore(self, ToAsn1(wanted.from).get()) != 1 ||
      X509_set1_notAfter(self, ToAsn1(wanted.to).get()) != 1 ||
      X509_set_pubkey(self, key.get()) != 1) {
    return Failed("making a certificate");
  }
  for (const auto& [nid, value] : wanted.extensions) {
    RETURN_IF_ERROR(Extend(self, issuer, nid, value));
  }
  EVP_PKEY* const signer = wanted.issuer_key == nullptr ? key.get() : wanted.issuer_key;
  if (X509_sign(self, signer, EVP_sha256()) == 0) return Failed("signing a certificate");
  KeyPair pair;
  ASSIGN_OR_RETURN(pair.certificate,
                   ToPem("a certificate", [&](BIO* bio) { return PEM_write_bio_X509(bio, self); }));
  ASSIGN_OR_RETURN(pair.key, ToPem("a key", [&](BIO* bio) {
                     return PEM_write_bio_PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr,
                                                     nullptr);
                   }));
  return pair;
}

bool IsAddress(const std::string& host) {
  in6_addr parsed{};
  return inet_pton(AF_INET, host.c_str(), &parsed) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &parsed) == 1;
}

absl::Status CheckHost(const std::string& host) {
  // Written into a line of OpenSSL's, where commas and colons mean something.
  if (IsAddress(host)) return absl::OkStatus();
  const bool plain = !host.empty() && host.size() <= 253 &&
                     std::all_of(host.begin(), host.end(), [](unsigned char c) {
                       return std::isalnum(c) != 0 || c == '-' || c == '.';
                     });
  if (plain) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the host '", host.substr(0, 253), "' is no name and no address"));
}

std::vector<std::string> TextsOf(const GENERAL_NAMES* names, int kind) {
  std::vector<std::string> texts;
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type != kind) continue;
    if (kind == GEN_IPADD) {
      char text[INET6_ADDRSTRLEN] = "";
      const int family = name->d.iPAddress->length == 4 ? AF_INET : AF_INET6;
      inet_ntop(family, name->d.iPAddress->data, text, sizeof(text));
      texts.emplace_back(text);
      continue;
    }
    const ASN1_STRING* text = name->d.ia5;
    texts.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                       static_cast<size_t>(ASN1_STRING_length(text)));
  }
  return texts;
}

absl::StatusOr<std::string> OnlyUri(const X509* certificate) {
  const Names names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  const std::vector<std::string> uris =
      names == nullptr ? std::vector<std::string>() : TextsOf(names.get(), GEN_URI);
  if (uris.size() == 1) return uris[0];
  return absl::InvalidArgumentError(absl::StrCat("the certificate has ", uris.size(),
                                                 " URIs where exactly one names its holder; "
                                                 "make one with firedrill pki issue"));
}

}  // namespace

absl::StatusOr<KeyPair> MakeAuthority(const std::string& domain, absl::Time now,
                                      absl::Duration lifetime) {
  RETURN_IF_ERROR(CheckPlainWord("domain", domain));
  Template wanted;
  wanted.common_name = absl::StrCat("Firedrill authority of ", domain);
  wanted.from = now - kEarlier;
  wanted.to = now + lifetime;
  wanted.extensions = {{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
                       {NID_key_usage, "critical,keyCertSign,cRLSign"},
                       {NID_subject_key_identifier, "hash"},
                       {NID_subject_alt_name, absl::StrCat("URI:spiffe://", domain)}};
  return Sign(wanted);
}

absl::StatusOr<KeyPair> MakeCertificate(const KeyPair& authority, const Peer& peer,
                                        const std::vector<std::string>& hosts, absl::Time now,
                                        absl::Duration lifetime) {
  const bool serves = peer.role == kControllerRole;
  RETURN_IF_ERROR(ParsePeer(peer.Uri()).status());
  if (serves && hosts.empty()) {
    return absl::InvalidArgumentError(
        "a controller's certificate names the hosts that it is dialled at; name one at least");
  }
  if (!serves && !hosts.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a host in the certificate of role ", peer.role,
                     " would let it serve in a controller's place; only a controller has hosts"));
  }
  ASSIGN_OR_RETURN(const X509Ptr issuer, CertificateFrom(authority.certificate));
  ASSIGN_OR_RETURN(const Key issuer_key, KeyFrom(authority.key));
  ASSIGN_OR_RETURN(const absl::Time last, FromAsn1(X509_get0_notAfter(issuer.get())));
  if (last <= now) {
    return absl::FailedPreconditionError("the authority has expired; make a new one");
  }
  std::string names = absl::StrCat("URI:", peer.Uri());
  for (const std::string& host : hosts) {
    RETURN_IF_ERROR(CheckHost(host));
    absl::StrAppend(&names, IsAddress(host) ? ",IP:" : ",DNS:", host);
  }
  Template wanted;
  wanted.common_name = absl::StrCat(peer.role, " ", peer.name);
  wanted.from = now - kEarlier;
  wanted.to = std::min(now + lifetime, last);
  wanted.issuer = issuer.get();
  wanted.issuer_key = issuer_key.get();
  wanted.extensions = {{NID_basic_constraints, "critical,CA:FALSE"},
                       {NID_key_usage, "critical,digitalSignature"},
                       {NID_ext_key_usage, serves ? "serverAuth" : "clientAuth"},
                       {NID_authority_key_identifier, "keyid:always"},
                       {NID_subject_alt_name, names}};
  return Sign(wanted);
}

absl::StatusOr<std::string> MakeRevocations(const KeyPair& authority,
                                            const std::vector<Revoked>& revoked, absl::Time now) {
  ASSIGN_OR_RETURN(const X509Ptr issuer, CertificateFrom(authority.certificate));
  ASSIGN_OR_RETURN(const Key key, KeyFrom(authority.key));
  const Crl list(X509_CRL_new());
  if (list == nullptr || X509_CRL_set_version(list.get(), X509_CRL_VERSION_2) != 1 ||
      X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(issuer.get())) != 1 ||
      X509_CRL_set1_lastUpdate(list.get(), ToAsn1(now - kEarlier).get()) != 1 ||
      X509_CRL_set1_nextUpdate(list.get(), X509_get0_notAfter(issuer.get())) != 1) {
    return Failed("making a list of the revoked");
  }
  for (const Revoked& each : revoked) {
    BIGNUM* parsed = nullptr;
    const int read = BN_hex2bn(&parsed, each.serial.c_str());
    const Number number(parsed);
    if (read == 0 || static_cast<size_t>(read) != each.serial.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", each.serial, "' is no serial number in hexadecimal"));
    }
    const Integer serial(BN_to_ASN1_INTEGER(number.get(), nullptr));
    X509_REVOKED* entry = X509_REVOKED_new();
    const bool added = entry != nullptr && serial != nullptr &&
                       X509_REVOKED_set_serialNumber(entry, serial.get()) == 1 &&
                       X509_REVOKED_set_revocationDate(entry, ToAsn1(each.at).get()) == 1 &&
                       X509_CRL_add0_revoked(list.get(), entry) == 1;
    if (!added) {
      X509_REVOKED_free(entry);
      return Failed("adding to a list of the revoked");
    }
  }
  X509_CRL_sort(list.get());
  if (X509_CRL_sign(list.get(), key.get(), EVP_sha256()) == 0) {
    return Failed("signing a list of the revoked");
  }
  return ToPem("a list of the revoked",
               [&](BIO* bio) { return PEM_write_bio_X509_CRL(bio, list.get()); });
}

absl::StatusOr<Certificate> ReadCertificate(absl::string_view pem) {
  ASSIGN_OR_RETURN(const X509Ptr certificate, CertificateFrom(pem));
  Certificate read;
  ASSIGN_OR_RETURN(const std::string uri, OnlyUri(certificate.get()));
  ASSIGN_OR_RETURN(read.peer, ParsePeer(uri));
  read.peer.serial = SerialText(X509_get0_serialNumber(certificate.get()));
  ASSIGN_OR_RETURN(read.not_before, FromAsn1(X509_get0_notBefore(certificate.get())));
  ASSIGN_OR_RETURN(read.not_after, FromAsn1(X509_get0_notAfter(certificate.get())));
  const Names names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate.get(), NID_subject_alt_name, nullptr, nullptr)));
  for (const int kind : {GEN_DNS, GEN_IPADD}) {
    for (std::string& host : TextsOf(names.get(), kind)) read.hosts.push_back(std::move(host));
  }
  return read;
}

absl::StatusOr<std::string> ReadDomain(absl::string_view authority_pem) {
  ASSIGN_OR_RETURN(const X509Ptr certificate, CertificateFrom(authority_pem));
  ASSIGN_OR_RETURN(const std::string uri, OnlyUri(certificate.get()));
  // As long as a peer has a role and a name.
  ASSIGN_OR_RETURN(const Peer peer, ParsePeer(absl::StrCat(uri, "/controller/authority")));
  return peer.domain;
}

absl::StatusOr<std::vector<Revoked>> ReadRevocations(absl::string_view pem,
                                                     absl::string_view authority_pem) {
  ASSIGN_OR_RETURN(const Crl list,
                   FromPem<Crl>("list of revoked certificates", pem, PEM_read_bio_X509_CRL));
  ASSIGN_OR_RETURN(const X509Ptr authority, CertificateFrom(authority_pem));
  if (X509_CRL_verify(list.get(), X509_get0_pubkey(authority.get())) != 1) {
    ERR_clear_error();
    return absl::InvalidArgumentError(
        "the list of revoked certificates was not signed by this authority");
  }
  const STACK_OF(X509_REVOKED)* entries = X509_CRL_get_REVOKED(list.get());
  std::vector<Revoked> revoked;
  for (int i = 0; i < sk_X509_REVOKED_num(entries); ++i) {
    if (revoked.size() >= kMostRevoked) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the list of revoked certificates has more than ", kMostRevoked,
                       ": make a new authority"));
    }
    const X509_REVOKED* entry = sk_X509_REVOKED_value(entries, i);
    ASSIGN_OR_RETURN(const absl::Time at, FromAsn1(X509_REVOKED_get0_revocationDate(entry)));
    revoked.push_back({SerialText(X509_REVOKED_get0_serialNumber(entry)), at});
  }
  return revoked;
}

absl::Status CheckBelongTogether(const KeyPair& pair, absl::string_view authority_pem) {
  ASSIGN_OR_RETURN(const X509Ptr certificate, CertificateFrom(pair.certificate));
  ASSIGN_OR_RETURN(const Key key, KeyFrom(pair.key));
  ASSIGN_OR_RETURN(const X509Ptr authority, CertificateFrom(authority_pem));
  absl::Status status;
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    status = absl::InvalidArgumentError("the key is not that of the certificate");
  } else if (X509_verify(certificate.get(), X509_get0_pubkey(authority.get())) != 1) {
    status = absl::InvalidArgumentError("the certificate was not signed by this authority");
  }
  ERR_clear_error();
  return status;
}

}  // namespace firedrill
