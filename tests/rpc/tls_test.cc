// Real TLS on loopback: who is let in to which RPC, what the refused are told, and what happens
// when certificates are replaced or revoked while connections are open.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/unique_fd.h"
#include "controller/rpc/health.h"
#include "firedrill/v1/controller.grpc.pb.h"
#include "firedrill/v1/injector.grpc.pb.h"
#include "identity/kept_identity.h"
#include "identity/protocol.h"
#include "identity/rpc/acceptor.h"
#include "identity/rpc/credentials.h"
#include "tests/testing/test_folder.h"

namespace firedrill {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kDay = absl::Hours(24);
constexpr absl::Duration kPatience = absl::Seconds(20);

// Before gRPC is used by anybody.
const bool kPrepared = (PrepareTls(), true);

struct Method {
  std::string path;
  v1::Role role;
};

std::vector<Method> Methods() {
  std::vector<Method> methods;
  for (const char* service : {"firedrill.v1.ControllerService", "firedrill.v1.InjectorService"}) {
    const auto* found =
        google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(service);
    for (int i = 0; found != nullptr && i < found->method_count(); ++i) {
      methods.push_back({absl::StrCat("/", service, "/", found->method(i)->name()),
                         found->method(i)->options().GetExtension(v1::role)});
    }
  }
  return methods;
}

// What lets everybody in answers this: no service is behind the gate.
constexpr auto kLetIn = grpc::StatusCode::UNIMPLEMENTED;

class TlsTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = absl::StrCat(TestFolder(), "/",
                           testing::UnitTest::GetInstance()->current_test_info()->name());
    ASSERT_EQ(mkdir(folder_.c_str(), 0700), 0);
    authority_ = New(MakeAuthority("shop", absl::Now(), 365 * kDay));
    Write("ca.crt", authority_.certificate);
    Revoke({});
    server_files_ = Files("server", Signed("controller", "c1", {"127.0.0.1"}));
    revocations_ = std::make_shared<Revocations>(folder_ + "/revoked.pem", folder_ + "/ca.crt");
    ASSERT_TRUE(revocations_->Refresh().ok());
    Serve();
  }

  void Serve() {
    const auto gate = std::make_shared<Gate>(
        "shop", revocations_, [this](const std::string&, const absl::Status&) { ++refused_; },
        gate_limits_);
    OfferHealthAndReflection();
    grpc::ServerBuilder builder;
    auto acceptor = Acceptor::Listen("127.0.0.1", 0, limits_);
    ASSERT_TRUE(acceptor.ok()) << acceptor.status();
    acceptor_ = *std::move(acceptor);
    acceptor_->Attach(builder, ServerTls(server_files_, gate));
    port_ = acceptor_->port();
    builder.RegisterService(&controller_);
    builder.RegisterService(&injector_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    acceptor_->Start();
  }

  static KeyPair New(const absl::StatusOr<KeyPair>& made) {
    EXPECT_TRUE(made.ok()) << made.status();
    return made.ok() ? *made : KeyPair();
  }
  KeyPair Signed(const std::string& role, const std::string& name,
                 const std::vector<std::string>& hosts = {}, absl::Duration ago = {},
                 const std::string& domain = "shop") {
    return New(
        MakeCertificate(authority_, {domain, role, name, ""}, hosts, absl::Now() - ago, kDay));
  }
  void Write(const std::string& name, const std::string& text) {
    const std::string path = absl::StrCat(folder_, "/", name);
    std::ofstream(path + ".new") << text;
    chmod((path + ".new").c_str(), 0600);
    ASSERT_EQ(rename((path + ".new").c_str(), path.c_str()), 0);
  }
  void Revoke(const std::vector<Revoked>& revoked) {
    Write("revoked.pem", *MakeRevocations(authority_, revoked, absl::Now()));
  }
  IdentityFiles Files(const std::string& stem, const KeyPair& pair) {
    Write(stem + ".key", pair.key);
    Write(stem + ".crt", pair.certificate);
    return {folder_ + "/ca.crt", absl::StrCat(folder_, "/", stem, ".crt"),
            absl::StrCat(folder_, "/", stem, ".key")};
  }

  std::shared_ptr<grpc::Channel> Dial(std::shared_ptr<grpc::ChannelCredentials> credentials,
                                      const std::string& agent = "") {
    grpc::ChannelArguments arguments;
    if (!agent.empty()) arguments.SetUserAgentPrefix(agent);
    // Channels with equal arguments would share a connection, and so an identity.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    return grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port_), credentials, arguments);
  }
  std::shared_ptr<grpc::Channel> DialAs(const KeyPair& pair) {
    const std::string stem = absl::StrCat("client-", ++clients_);
    return Dial(ChannelTls(Files(stem, pair)));
  }

  // Any method as an empty unary call: the gate is asked before it matters.
  static grpc::Status Call(const std::shared_ptr<grpc::Channel>& channel, const std::string& path) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
    grpc::CompletionQueue queue;
    grpc::GenericStub stub(channel);
    const grpc::Slice nothing;
    const grpc::ByteBuffer empty(&nothing, 1);
    const std::unique_ptr<grpc::GenericClientAsyncResponseReader> call =
        stub.PrepareUnaryCall(&context, path, empty, &queue);
    call->StartCall();
    grpc::ByteBuffer answer;
    grpc::Status status;
    call->Finish(&answer, &status, &answer);
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue.Next(&tag, &ok));
    return status;
  }
  // Calls that were made, and those of them that were let in. Each has a connection of its own: a
  // channel that was refused once would not even try again.
  struct Tried {
    int calls = 0, let_in = 0;
    std::string words;
  };
  using DialOne = std::function<std::shared_ptr<grpc::Channel>()>;
  static void Try(const DialOne& dial, const Method& method, Tried& tried) {
    const grpc::Status status = Call(dial(), method.path);
    ++tried.calls;
    tried.words = status.error_message();
    switch (status.error_code()) {
      case grpc::StatusCode::UNAVAILABLE:
      case grpc::StatusCode::UNAUTHENTICATED:
      case grpc::StatusCode::PERMISSION_DENIED:
        return;
      default:
        ++tried.let_in;
    }
  }
  static Tried TryAll(const DialOne& dial) {
    Tried tried;
    for (const Method& method : Methods()) Try(dial, method, tried);
    return tried;
  }

  std::string folder_;
  KeyPair authority_;
  IdentityFiles server_files_;
  std::shared_ptr<Revocations> revocations_;
  v1::ControllerService::Service controller_;
  v1::InjectorService::Service injector_;
  int port_ = 0;
  int clients_ = 0;
  std::atomic<int> refused_ = 0;
  AcceptorLimits limits_;
  GateLimits gate_limits_;
  std::unique_ptr<Acceptor> acceptor_;
  // Goes before the acceptor.
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(TlsTest, ARoleMayCallWhatItsRpcsDeclare) {
  const std::vector<Method> methods = Methods();
  ASSERT_GE(methods.size(), 10u);
  for (const std::string role : {"viewer", "author", "operator", "admin", "injector"}) {
    const auto channel = DialAs(Signed(role, "somebody"));
    for (const Method& method : methods) {
      const grpc::Status status = Call(channel, method.path);
      const bool may = May(RoleOf({"shop", role, "somebody", ""}), method.role);
      EXPECT_EQ(status.error_code(), may ? kLetIn : grpc::StatusCode::PERMISSION_DENIED)
          << role << " " << method.path << ": " << status.error_message();
      EXPECT_EQ(may, !absl::StrContains(status.error_message(), "which takes the role"));
    }
  }
}

TEST_F(TlsTest, WhoSpeaksAnotherMajorProtocolIsToldWhomToBringUpToDate) {
  const IdentityFiles alice = Files("alice", Signed("admin", "alice"));
  const std::string path = "/firedrill.v1.ControllerService/ListRuns";
  const auto as = [&](const std::string& agent) {
    return Call(Dial(ChannelTls(alice), agent), path);
  };
  // The release before, which said nothing; this one; those that know more, or less, of the same.
  for (const std::string& agent :
       {std::string(), ProtocolAgent(), std::string("firedrill-protocol/1.0"),
        std::string("firedrill-protocol/1.99")}) {
    EXPECT_EQ(as(agent).error_code(), kLetIn) << agent;
  }
  const grpc::Status newer = as("firedrill-protocol/2.0");
  EXPECT_EQ(newer.error_code(), grpc::StatusCode::FAILED_PRECONDITION) << newer.error_message();
  EXPECT_THAT(
      newer.error_message(),
      HasSubstr("speaks protocol 2.0, this controller 1.1: bring the controller up to date"));
  const grpc::Status older = as("firedrill-protocol/0.9");
  EXPECT_EQ(older.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(older.error_message(), HasSubstr("bring it up to the controller's release"));
  EXPECT_EQ(refused_, 2);
}

TEST_F(TlsTest, NobodyElseIsLetIn) {
  const auto methods = static_cast<int>(Methods().size());
  const auto as = [&](const KeyPair& pair) -> DialOne {
    return [this, pair] { return DialAs(pair); };
  };
  const auto with = [&](const std::shared_ptr<grpc::ChannelCredentials>& credentials) -> DialOne {
    return [this, credentials] { return Dial(credentials); };
  };
  grpc::SslCredentialsOptions without;
  without.pem_root_certs = authority_.certificate;
  const KeyPair theirs = New(MakeAuthority("shop", absl::Now(), kDay));
  grpc::SslCredentialsOptions wrong = without;
  const KeyPair forged =
      New(MakeCertificate(theirs, {"shop", "admin", "mallory", ""}, {}, absl::Now(), kDay));
  wrong.pem_private_key = forged.key;
  wrong.pem_cert_chain = forged.certificate;
  const KeyPair gone = Signed("admin", "gone");
  // It was let in before it was revoked: what it shows is good in every other way.
  EXPECT_EQ(TryAll(as(gone)).let_in, methods - 1) << "all but that of an injector";
  Revoke({{ReadCertificate(gone.certificate)->peer.serial, absl::Now()}});
  ASSERT_TRUE(revocations_->Refresh().ok());

  const std::vector<std::pair<std::string, DialOne>> callers = {
      {"plaintext", with(grpc::InsecureChannelCredentials())},
      {"no certificate", with(grpc::SslCredentials(without))},
      {"another authority", with(grpc::SslCredentials(wrong))},
      {"expired", as(Signed("admin", "late", {}, 3 * kDay))},
      {"not good yet", as(Signed("admin", "early", {}, -kDay))},
      {"revoked", as(gone)},
      {"another domain", as(Signed("admin", "alice", {}, {}, "elsewhere"))},
      {"a controller's", as(Signed("controller", "c2", {"127.0.0.1"}))},
  };
  int calls = 0, let_in = 0;
  for (const auto& [name, dial] : callers) {
    const Tried tried = TryAll(dial);
    EXPECT_EQ(tried.calls, methods) << name;
    EXPECT_EQ(tried.let_in, 0) << name << ": " << tried.words;
    if (name == "revoked" || name == "another domain") {
      EXPECT_THAT(tried.words, HasSubstr(name));
    }
    calls += tried.calls;
    let_in += tried.let_in;
  }
  // And whoever has too low a role, or another one.
  Tried low, enough;
  for (const std::string role : {"viewer", "author", "operator", "admin", "injector"}) {
    const DialOne dial = as(Signed(role, "somebody"));
    for (const Method& method : Methods()) {
      Try(dial, method, May(RoleOf({"shop", role, "somebody", ""}), method.role) ? enough : low);
    }
  }
  EXPECT_GT(low.calls, methods);
  EXPECT_EQ(low.let_in, 0) << low.words;
  // They were refused because of who they are: the same calls by those who may are let in.
  EXPECT_EQ(enough.let_in, enough.calls);
  EXPECT_EQ(low.calls + enough.calls, 5 * methods);
  calls += low.calls;
  let_in += low.let_in;
  std::printf(
      "RPCs accepted: %d of %d, by %zu kinds of callers who may not, over %d methods; of those who "
      "may: %d of %d\n",
      let_in, calls, callers.size() + 1, methods, enough.let_in, enough.calls);
}

// One request of reflection and its answer, as bytes: Debian has no headers of its messages.
std::string Reflect(const std::shared_ptr<grpc::Channel>& channel, const std::string& path,
                    const std::string& request) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
  grpc::CompletionQueue queue;
  grpc::GenericStub stub(channel);
  const auto next = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  const auto call = stub.PrepareCall(&context, path, &queue);
  call->StartCall(nullptr);
  EXPECT_TRUE(next());
  const grpc::Slice bytes(request);
  call->Write(grpc::ByteBuffer(&bytes, 1), nullptr);
  EXPECT_TRUE(next());
  grpc::ByteBuffer answer;
  call->Read(&answer, nullptr);
  EXPECT_TRUE(next());
  call->WritesDone(nullptr);
  EXPECT_TRUE(next());
  grpc::Status status;
  call->Finish(&status, nullptr);
  next();
  grpc::Slice all;
  return answer.DumpToSingleSlice(&all).ok()
             ? std::string(reinterpret_cast<const char*>(all.begin()), all.size())
             : "";
}

TEST_F(TlsTest, HealthAndReflectionAreForWhoeverMayLook) {
  SetServing(*server_, true);
  const std::string health = "/grpc.health.v1.Health/Check";
  const std::string reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
  const auto viewer = DialAs(Signed("viewer", "somebody"));
  EXPECT_TRUE(Call(viewer, health).ok());
  // What reflection would show is in the pool, with gRPC's own service in it.
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  EXPECT_NE(pool->FindServiceByName("grpc.health.v1.Health"), nullptr);
  // list_services, then file_containing_symbol.
  const std::string names = Reflect(viewer, reflection, std::string("\x3a\x00", 2));
  for (const char* name : {"firedrill.v1.ControllerService", "firedrill.v1.InjectorService",
                           "grpc.health.v1.Health"}) {
    EXPECT_THAT(names, HasSubstr(name));
    const std::string symbol(name);
    const std::string file =
        Reflect(viewer, reflection,
                absl::StrCat("\x22", std::string(1, static_cast<char>(symbol.size())), symbol));
    EXPECT_THAT(file, HasSubstr(".proto")) << name;
    EXPECT_THAT(file, testing::Not(HasSubstr("not found"))) << name;
  }
  // An injector serves its node, and looks at nothing; nor does who is nobody.
  const auto injector = DialAs(Signed("injector", "db-1"));
  for (const std::string& method : {health, reflection}) {
    EXPECT_EQ(Call(injector, method).error_code(), grpc::StatusCode::PERMISSION_DENIED);
  }
  EXPECT_FALSE(Call(DialAs(Signed("viewer", "x", {}, {}, "elsewhere")), health).ok());
}

TEST_F(TlsTest, WhoCallsTooOftenIsToldAndCanStillStop) {
  server_.reset();
  gate_limits_ = {.calls_a_second = 0.001, .calls_at_once = 5};
  Serve();
  const std::string list = "/firedrill.v1.ControllerService/ListRuns";
  const auto alice = DialAs(Signed("admin", "alice"));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Call(alice, list).error_code(), kLetIn);
  const grpc::Status status = Call(alice, list);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("ask less often"));
  // By name, not by connection.
  EXPECT_EQ(Call(DialAs(Signed("admin", "alice")), list).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Call(DialAs(Signed("admin", "bob")), list).error_code(), kLetIn);
  EXPECT_EQ(Call(alice, "/firedrill.v1.ControllerService/StopAll").error_code(), kLetIn);
  EXPECT_EQ(Call(alice, "/firedrill.v1.ControllerService/StopRun").error_code(), kLetIn);
  EXPECT_EQ(refused_, 2);
}

TEST_F(TlsTest, AMessageThatIsTooLongIsRefused) {
  const auto stub = v1::ControllerService::NewStub(DialAs(Signed("admin", "alice")));
  for (const size_t megabytes : {1, 5}) {
    grpc::ClientContext context;
    v1::StopRunRequest request;
    request.set_reason(std::string(megabytes << 20, 'x'));
    v1::StopRunResponse response;
    EXPECT_EQ(stub->StopRun(&context, request, &response).error_code(),
              megabytes == 1 ? kLetIn : grpc::StatusCode::RESOURCE_EXHAUSTED);
  }
}

// A connection that says nothing.
UniqueFd Silent(int port, uint32_t from = INADDR_LOOPBACK) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in own{};
  own.sin_family = AF_INET;
  own.sin_addr.s_addr = htonl(from);
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&own), sizeof(own)), 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
  return fd;
}

// Whether the other end has ended it, within the patience.
bool WasEnded(const UniqueFd& fd, absl::Duration patience) {
  pollfd polled{fd.get(), POLLIN | POLLRDHUP, 0};
  return poll(&polled, 1, static_cast<int>(absl::ToInt64Milliseconds(patience))) == 1;
}

class AcceptorTest : public TlsTest {
 protected:
  AcceptorTest() {
    limits_.unproven = 16;
    limits_.of_one_peer = 64;
  }
  const std::string path_ = "/firedrill.v1.ControllerService/ListRuns";
};

TEST_F(AcceptorTest, WhoIsSilentIsEnded) {
  const UniqueFd silent = Silent(port_);
  const absl::Time since = absl::Now();
  EXPECT_TRUE(WasEnded(silent, kPatience));
  EXPECT_GE(absl::Now() - since, limits_.proven_within - absl::Milliseconds(50));
}

TEST_F(AcceptorTest, AFloodOfTheSilentKeepsNobodyOut) {
  server_.reset();
  limits_.proven_within = absl::Minutes(10);
  Serve();
  const auto known = DialAs(Signed("admin", "alice"));
  ASSERT_EQ(Call(known, path_).error_code(), kLetIn);
  std::vector<UniqueFd> flood;
  for (int i = 0; i < 200; ++i) flood.push_back(Silent(port_));
  // The oldest make room, long before their time is over.
  const absl::Time until = absl::Now() + kPatience;
  int ended = 0;
  while (ended < 200 - 16 && absl::Now() < until) {
    ended = 0;
    for (const UniqueFd& fd : flood) ended += WasEnded(fd, absl::ZeroDuration()) ? 1 : 0;
  }
  EXPECT_EQ(ended, 200 - 16);
  EXPECT_EQ(Call(DialAs(Signed("admin", "bob")), path_).error_code(), kLetIn);
  // Who had proven who they are is not touched by it.
  EXPECT_EQ(Call(known, path_).error_code(), kLetIn);
}

// A flood comes more quickly than whoever means it can say who they are.
TEST_F(AcceptorTest, AFloodEndsNobodyWhoHasBegunToSpeakOrComesFromElsewhere) {
  server_.reset();
  limits_.proven_within = absl::Minutes(10);
  Serve();
  const UniqueFd begun = Silent(port_);
  // The first byte of a handshake.
  ASSERT_EQ(write(begun.get(), "\x16", 1), 1);
  const UniqueFd elsewhere = Silent(port_, INADDR_LOOPBACK + 1);
  std::vector<UniqueFd> flood;
  for (int i = 0; i < 200; ++i) flood.push_back(Silent(port_));
  const absl::Time until = absl::Now() + kPatience;
  int ended = 0;
  while (ended < 200 - 14 && absl::Now() < until) {
    ended = 0;
    for (const UniqueFd& fd : flood) ended += WasEnded(fd, absl::ZeroDuration()) ? 1 : 0;
  }
  EXPECT_EQ(ended, 200 - 14);
  EXPECT_FALSE(WasEnded(begun, absl::ZeroDuration()));
  EXPECT_FALSE(WasEnded(elsewhere, absl::ZeroDuration()));
  // Those who have spoken are no more than the room, either.
  for (const UniqueFd& fd : flood) (void)!send(fd.get(), "\x16", 1, MSG_NOSIGNAL);
  absl::SleepFor(absl::Milliseconds(50));
  for (int i = 0; i < 200; ++i) {
    flood.push_back(Silent(port_));
    ASSERT_EQ(write(flood.back().get(), "\x16", 1), 1);
  }
  EXPECT_TRUE(WasEnded(begun, kPatience));
  EXPECT_FALSE(WasEnded(elsewhere, absl::ZeroDuration()));
}

TEST_F(AcceptorTest, NorOneFromManyAddresses) {
  server_.reset();
  limits_.proven_within = absl::Minutes(10);
  Serve();
  std::vector<UniqueFd> flood;
  for (int round = 0; round < 5; ++round) {
    const UniqueFd begun = Silent(port_);
    ASSERT_EQ(write(begun.get(), "\x16", 1), 1);
    const size_t before = flood.size();
    for (int i = 0; i < 100; ++i) {
      flood.push_back(Silent(port_, INADDR_LOOPBACK + 1 + static_cast<uint32_t>(flood.size())));
    }
    EXPECT_TRUE(WasEnded(flood[before + 80], kPatience));
    EXPECT_FALSE(WasEnded(begun, absl::ZeroDuration())) << round;
  }
}

TEST_F(AcceptorTest, WhoHasProvenWhoTheyAreStays) {
  const auto channel = DialAs(Signed("admin", "alice"));
  ASSERT_EQ(Call(channel, path_).error_code(), kLetIn);
  const UniqueFd silent = Silent(port_);
  ASSERT_TRUE(WasEnded(silent, kPatience));
  EXPECT_EQ(channel->GetState(false), GRPC_CHANNEL_READY);
}

TEST_F(AcceptorTest, OneAddressHasItsShareAndNoMore) {
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  const KeyPair alice = Signed("admin", "alice");
  for (size_t i = 0; i < limits_.of_one_peer; ++i) {
    channels.push_back(DialAs(alice));
    ASSERT_EQ(Call(channels.back(), path_).error_code(), kLetIn) << i;
  }
  EXPECT_EQ(Call(DialAs(alice), path_).error_code(), grpc::StatusCode::UNAVAILABLE);
  // There is room again once one has gone.
  channels.pop_back();
  const absl::Time until = absl::Now() + kPatience;
  grpc::Status status;
  do {
    status = Call(DialAs(alice), path_);
  } while (status.error_code() != kLetIn && absl::Now() < until);
  EXPECT_EQ(status.error_code(), kLetIn);
}

TEST_F(AcceptorTest, APortIsNeverShared) {
  const auto second = Acceptor::Listen("127.0.0.1", port_);
  EXPECT_TRUE(absl::IsAlreadyExists(second.status())) << second.status();
  EXPECT_THAT(second.status().message(), HasSubstr(absl::StrCat("127.0.0.1:", port_, " is taken")));
  EXPECT_THAT(second.status().message(),
              HasSubstr(absl::StrCat("`ss -ltnp 'sport = :", port_,
                                     "'` says who; end it, or choose another port")));
  // Of TEST-NET-1: nobody's.
  const auto foreign = Acceptor::Listen("192.0.2.1", 0);
  EXPECT_THAT(foreign.status().message(), HasSubstr("no such address; `ip -brief address`"));
  EXPECT_THAT(Acceptor::Listen("localhost", 0).status().message(), HasSubstr("as numbers"));
  EXPECT_TRUE(Acceptor::Listen("", 0).ok());
}

// A client of OpenSSL's own: the newest version of TLS that it speaks decides.
bool ShakesHands(int port, int version, const IdentityFiles& files) {
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()),
                                                                  SSL_CTX_free);
  SSL_CTX_set_max_proto_version(context.get(), version);
  SSL_CTX_use_certificate_file(context.get(), files.certificate.c_str(), SSL_FILETYPE_PEM);
  SSL_CTX_use_PrivateKey_file(context.get(), files.key.c_str(), SSL_FILETYPE_PEM);
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(port));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) return false;
  const std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context.get()), SSL_free);
  const unsigned char h2[] = "\x02h2";
  SSL_set_alpn_protos(ssl.get(), h2, 3);
  SSL_set_fd(ssl.get(), fd.get());
  return SSL_connect(ssl.get()) == 1;
}

TEST_F(TlsTest, OlderThanTls13IsRefused) {
  const IdentityFiles alice = Files("alice", Signed("admin", "alice"));
  EXPECT_TRUE(ShakesHands(port_, TLS1_3_VERSION, alice));
  EXPECT_FALSE(ShakesHands(port_, TLS1_2_VERSION, alice));
}

TEST_F(TlsTest, WhoIsRevokedIsRefusedOnAnOpenConnection) {
  const KeyPair alice = Signed("admin", "alice");
  const auto channel = DialAs(alice);
  const std::string path = "/firedrill.v1.ControllerService/ListRuns";
  ASSERT_EQ(Call(channel, path).error_code(), kLetIn);
  Revoke({{ReadCertificate(alice.certificate)->peer.serial, absl::Now()}});
  ASSERT_TRUE(revocations_->Refresh().ok());
  const grpc::Status status = Call(channel, path);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(status.error_message(), HasSubstr("was revoked: ask for a new one"));
  EXPECT_EQ(Call(DialAs(Signed("admin", "alice")), path).error_code(), kLetIn);
  EXPECT_EQ(refused_, 1);
}

TEST_F(TlsTest, ADamagedListTakesNothingBack) {
  const KeyPair alice = Signed("admin", "alice");
  const std::string serial = ReadCertificate(alice.certificate)->peer.serial;
  Revoke({{serial, absl::Now()}});
  ASSERT_TRUE(revocations_->Refresh().ok());
  Write("revoked.pem", "no list");
  EXPECT_FALSE(revocations_->Refresh().ok());
  EXPECT_TRUE(revocations_->Has(serial));
  ASSERT_EQ(unlink((folder_ + "/revoked.pem").c_str()), 0);
  EXPECT_FALSE(revocations_->Refresh().ok());
  EXPECT_TRUE(revocations_->Has(serial));
}

TEST_F(TlsTest, OnlyTheServerThatWasDialledIsBelieved) {
  server_.reset();
  // Of the same authority, but for another host.
  server_files_ = Files("server", Signed("controller", "c1", {"127.0.0.2"}));
  Serve();
  const auto channel = DialAs(Signed("admin", "alice"));
  EXPECT_EQ(Call(channel, "/firedrill.v1.ControllerService/ListRuns").error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

TEST_F(TlsTest, CertificatesAreReplacedWithoutARestart) {
  const std::string path = "/firedrill.v1.ControllerService/ListRuns";
  const KeyPair alice = Signed("admin", "alice");
  ASSERT_EQ(Call(DialAs(alice), path).error_code(), kLetIn);
  // A new authority: who has a certificate of the old one is no longer let in, once it is read.
  const KeyPair old = authority_;
  authority_ = New(MakeAuthority("shop", absl::Now(), kDay));
  Write("ca.crt", authority_.certificate);
  Files("server", Signed("controller", "c1", {"127.0.0.1"}));
  const KeyPair bob = Signed("admin", "bob");
  const absl::Time until = absl::Now() + kPatience;
  grpc::Status status;
  do {
    status = Call(DialAs(bob), path);
  } while (status.error_code() != kLetIn && absl::Now() < until);
  EXPECT_EQ(status.error_code(), kLetIn) << status.error_message();
  EXPECT_NE(Call(DialAs(alice), path).error_code(), kLetIn);
}

// Whatever has become of the files, the last good ones are shown; the same with the files
// themselves lets nobody in.
TEST_F(TlsTest, ARenewalThatGoesWrongKeepsNobodyOut) {
  server_.reset();
  const IdentityFiles files = server_files_;
  auto kept = KeptIdentity::Open(files, {"controller"});
  ASSERT_TRUE(kept.ok()) << kept.status();
  server_files_ = kept->files();
  Serve();
  const std::string path = "/firedrill.v1.ControllerService/ListRuns";
  const KeyPair alice = Signed("admin", "alice");
  const KeyPair next = Signed("controller", "c1", {"127.0.0.1"});
  const std::vector<std::pair<std::string, std::function<void()>>> wrong = {
      {"is not that of the certificate", [&] { Write("server.key", next.key); }},
      {"server.crt", [&] { Write("server.crt", "half"); }},
      {"chmod 600", [&] { chmod(files.key.c_str(), 0644); }},
      {"No such file",
       [&] {
         chmod(files.key.c_str(), 0600);
         unlink(files.certificate.c_str());
       }},
      {"one of role controller", [&] { Files("server", alice); }},
  };
  for (const auto& [why, go] : wrong) {
    go();
    EXPECT_THAT(kept->Look().message(), HasSubstr(why));
    // gRPC reads them once a second.
    absl::SleepFor(absl::Milliseconds(1200));
    EXPECT_EQ(Call(DialAs(alice), path).error_code(), kLetIn) << why;
  }
  // And what is good is taken.
  Files("server", next);
  EXPECT_TRUE(kept->Look().ok());
  std::ifstream now(kept->files().certificate);
  const std::string shown((std::istreambuf_iterator<char>(now)), {});
  EXPECT_EQ(shown, next.certificate + "\n" + next.key);
  absl::SleepFor(absl::Milliseconds(1200));
  EXPECT_EQ(Call(DialAs(alice), path).error_code(), kLetIn);
}

// A new authority, too, which is taken with the certificate that it has signed.
TEST_F(TlsTest, WhatIsKeptIsReplacedAsAWhole) {
  server_.reset();
  auto kept = KeptIdentity::Open(server_files_, {"controller"});
  ASSERT_TRUE(kept.ok()) << kept.status();
  server_files_ = kept->files();
  Serve();
  const std::string path = "/firedrill.v1.ControllerService/ListRuns";
  const KeyPair alice = Signed("admin", "alice");
  authority_ = New(MakeAuthority("shop", absl::Now(), kDay));
  const KeyPair bob = Signed("admin", "bob");
  Write("ca.crt", authority_.certificate);
  EXPECT_FALSE(kept->Look().ok());
  Files("server", Signed("controller", "c1", {"127.0.0.1"}));
  EXPECT_TRUE(kept->Look().ok());
  const absl::Time until = absl::Now() + kPatience;
  grpc::Status status;
  do {
    status = Call(DialAs(bob), path);
  } while (status.error_code() != kLetIn && absl::Now() < until);
  EXPECT_EQ(status.error_code(), kLetIn) << status.error_message();
  EXPECT_NE(Call(DialAs(alice), path).error_code(), kLetIn);
}

TEST_F(TlsTest, AnIdentityIsLookedAtBeforeItIsUsed) {
  const IdentityFiles good = Files("alice", Signed("admin", "alice"));
  EXPECT_TRUE(CheckIdentity(good, {"admin"}, absl::Now()).ok());
  EXPECT_THAT(CheckIdentity(good, {"injector"}, absl::Now()).status().message(),
              HasSubstr("it must be one of role injector"));
  EXPECT_THAT(CheckIdentity(good, {"admin"}, absl::Now() + 2 * kDay).status().message(),
              HasSubstr("issue a new one"));
  chmod(good.key.c_str(), 0640);
  EXPECT_THAT(CheckIdentity(good, {"admin"}, absl::Now()).status().message(),
              HasSubstr("chmod 600"));
  EXPECT_THAT(
      CheckIdentity({good.authority, good.certificate, folder_ + "/none"}, {"admin"}, absl::Now())
          .status()
          .message(),
      HasSubstr("none"));
}

}  // namespace
}  // namespace firedrill
