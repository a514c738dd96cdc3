// Redirects connect(2) by BPF programs that are put together here, instruction by instruction: they
// are short, and so need neither a compiler nor its output at run time.
#include "injector/os/connect_redirect.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fstream>

#include "absl/algorithm/container.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status_macros.h"

// Debian 12's headers of the C library know it; older ones do not.
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace firedrill {
namespace {

// Sockets of ours that are about to connect; the oldest are forgotten.
constexpr uint32_t kExemptSockets = 16384;
// As the kernel shows the name of a worker's thread.
constexpr char kWorker[16] = "firedrill-wire";
constexpr char kInstead[] = "; use `listen` and point the clients there, which needs no rights";

int Bpf(int command, bpf_attr& attributes) {
  return static_cast<int>(syscall(SYS_bpf, command, &attributes, sizeof(attributes)));
}

absl::Status BpfError(absl::string_view doing) {
  const int error = errno;
  const std::string why = absl::StrCat(doing, ": ", std::strerror(error), kInstead);
  if (error == EPERM || error == EACCES) {
    return absl::PermissionDeniedError(absl::StrCat(
        doing, ": not permitted; run the injector as root, with CAP_SYS_ADMIN", kInstead));
  }
  return absl::UnavailableError(why);
}

absl::StatusOr<UniqueFd> MakeMap(bpf_map_type type, uint32_t key, uint32_t value, uint32_t size) {
  bpf_attr attributes{};
  attributes.map_type = type;
  attributes.key_size = key;
  attributes.value_size = value;
  attributes.max_entries = size;
  UniqueFd fd(Bpf(BPF_MAP_CREATE, attributes));
  if (!fd.valid()) return BpfError("making a BPF map for the redirect");
  return fd;
}

absl::Status Update(int map, const void* key, const void* value) {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map);
  attributes.key = reinterpret_cast<uint64_t>(key);
  attributes.value = reinterpret_cast<uint64_t>(value);
  attributes.flags = BPF_ANY;
  if (Bpf(BPF_MAP_UPDATE_ELEM, attributes) == 0) return absl::OkStatus();
  return BpfError("writing the redirect's map");
}

// Instructions, with jumps to labels that come later.
class Assembler {
 public:
  using Label = int;
  Label NewLabel() {
    labels_.push_back(-1);
    return static_cast<Label>(labels_.size()) - 1;
  }
  void Bind(Label label) { labels_[label] = static_cast<int>(code_.size()); }

  void Raw(uint8_t code, uint8_t to, uint8_t from, int16_t offset, int32_t value) {
    bpf_insn instruction{};
    instruction.code = code;
    instruction.dst_reg = to & 0xf;
    instruction.src_reg = from & 0xf;
    instruction.off = offset;
    instruction.imm = value;
    code_.push_back(instruction);
  }
  void Move(uint8_t to, uint8_t from) { Raw(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0); }
  // The upper half becomes zero.
  void Move32(uint8_t to, uint8_t from) { Raw(BPF_ALU | BPF_MOV | BPF_X, to, from, 0, 0); }
  void Set(uint8_t to, int32_t value) { Raw(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value); }
  void Add(uint8_t to, int32_t value) { Raw(BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, value); }
  void Load(uint8_t size, uint8_t to, uint8_t from, int offset) {
    Raw(BPF_LDX | BPF_MEM | size, to, from, static_cast<int16_t>(offset), 0);
  }
  void Store(uint8_t size, uint8_t to, int offset, uint8_t from) {
    Raw(BPF_STX | BPF_MEM | size, to, from, static_cast<int16_t>(offset), 0);
  }
  void Wide(uint8_t to, uint64_t value, uint8_t kind = 0) {
    Raw(BPF_LD | BPF_DW | BPF_IMM, to, kind, 0, static_cast<int32_t>(value));
    Raw(0, 0, 0, 0, static_cast<int32_t>(value >> 32));
  }
  void Call(int32_t function) { Raw(BPF_JMP | BPF_CALL, 0, 0, 0, function); }
  void Jump(uint8_t operation, uint8_t left, uint8_t right, Label to) {
    jumps_.push_back({code_.size(), to});
    Raw(BPF_JMP | operation | BPF_X, left, right, 0, 0);
  }
  void JumpOn(uint8_t operation, uint8_t left, int32_t right, Label to) {
    jumps_.push_back({code_.size(), to});
    Raw(BPF_JMP | operation | BPF_K, left, 0, 0, right);
  }
  void JumpOn32(uint8_t operation, uint8_t left, uint32_t right, Label to) {
    jumps_.push_back({code_.size(), to});
    Raw(BPF_JMP32 | operation | BPF_K, left, 0, 0, static_cast<int32_t>(right));
  }
  void Always(Label to) {
    jumps_.push_back({code_.size(), to});
    Raw(BPF_JMP | BPF_JA, 0, 0, 0, 0);
  }
  void Exit() { Raw(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }

  const std::vector<bpf_insn>& Finish() {
    for (const auto& [at, label] : jumps_) {
      code_[at].off = static_cast<int16_t>(labels_[label] - static_cast<int>(at) - 1);
    }
    jumps_.clear();
    return code_;
  }

 private:
  std::vector<bpf_insn> code_;
  std::vector<int> labels_;
  std::vector<std::pair<size_t, Label>> jumps_;
};

struct Words {
  uint32_t address[4] = {};
  uint32_t port = 0;
};

// As the kernel shows them to the program: every word in network order.
Words WordsOf(const sockaddr_storage& address, bool six) {
  Words words;
  if (address.ss_family == AF_INET) {
    const auto& four = reinterpret_cast<const sockaddr_in&>(address);
    words.port = four.sin_port;
    words.address[six ? 3 : 0] = four.sin_addr.s_addr;
    if (six) words.address[2] = htonl(0xffff);
  } else {
    const auto& its = reinterpret_cast<const sockaddr_in6&>(address);
    words.port = its.sin6_port;
    std::memcpy(words.address, its.sin6_addr.s6_addr, sizeof(words.address));
  }
  return words;
}

constexpr uint8_t r0 = 0, r1 = 1, r2 = 2, r6 = 6, r7 = 7, r8 = 8, kFrame = 10;

std::vector<bpf_insn> Program(const RedirectOptions& options, bool six, int lease, int exempt,
                              uint64_t namespace_cookie) {
  const int address_at =
      six ? offsetof(bpf_sock_addr, user_ip6) : offsetof(bpf_sock_addr, user_ip4);
  const int words_used = six ? 4 : 1;
  Assembler code;
  const auto pass = code.NewLabel(), hit = code.NewLabel();
  code.Move(r6, r1);
  for (const sockaddr_storage& destination : options.destinations) {
    if (!six && destination.ss_family != AF_INET) continue;
    const Words wanted = WordsOf(destination, six);
    const auto next = code.NewLabel();
    code.Load(BPF_W, r2, r6, offsetof(bpf_sock_addr, user_port));
    code.JumpOn32(BPF_JNE, r2, wanted.port, next);
    for (int i = 0; i < words_used; ++i) {
      code.Load(BPF_W, r2, r6, address_at + 4 * i);
      code.JumpOn32(BPF_JNE, r2, wanted.address[i], next);
    }
    code.Set(r8, destination.ss_family);
    code.Always(hit);
    code.Bind(next);
  }
  code.Always(pass);
  code.Bind(hit);
  code.Load(BPF_W, r2, r6, offsetof(bpf_sock_addr, type));
  code.JumpOn32(BPF_JNE, r2, SOCK_STREAM, pass);
  // The same address means another server in another network namespace.
  code.Move(r1, r6);
  code.Call(BPF_FUNC_get_netns_cookie);
  code.Wide(r1, namespace_cookie);
  code.Jump(BPF_JNE, r0, r1, pass);
  if (options.uid.has_value()) {
    code.Call(BPF_FUNC_get_current_uid_gid);
    code.Move32(r0, r0);
    code.JumpOn32(BPF_JNE, r0, *options.uid, pass);
  }
  code.Set(r2, 0);
  code.Store(BPF_W, kFrame, -4, r2);
  code.Move(r2, kFrame);
  code.Add(r2, -4);
  code.Wide(r1, static_cast<uint32_t>(lease), BPF_PSEUDO_MAP_FD);
  code.Call(BPF_FUNC_map_lookup_elem);
  // A constant, not a register that holds one: by nothing else Linux 6.1 knows that there is a
  // value from here on.
  code.JumpOn(BPF_JEQ, r0, 0, pass);
  code.Load(BPF_DW, r7, r0, 0);
  code.Call(BPF_FUNC_ktime_get_boot_ns);
  code.Jump(BPF_JGE, r0, r7, pass);
  code.Move(r1, r6);
  code.Call(BPF_FUNC_get_socket_cookie);
  code.Store(BPF_DW, kFrame, -16, r0);
  code.Move(r2, kFrame);
  code.Add(r2, -16);
  code.Wide(r1, static_cast<uint32_t>(exempt), BPF_PSEUDO_MAP_FD);
  code.Call(BPF_FUNC_map_lookup_elem);
  code.JumpOn(BPF_JNE, r0, 0, pass);
  // Nor another worker's, of another node or another person: two would lead each other in a circle.
  const auto lead = code.NewLabel();
  code.Move(r1, kFrame);
  code.Add(r1, -32);
  code.Set(r2, sizeof(kWorker));
  code.Call(BPF_FUNC_get_current_comm);
  for (const int half : {0, 1}) {
    uint64_t word = 0;
    std::memcpy(&word, kWorker + 8 * half, sizeof(word));
    code.Load(BPF_DW, r2, kFrame, -32 + 8 * half);
    code.Wide(r1, word);
    code.Jump(BPF_JNE, r2, r1, lead);
  }
  code.Always(pass);
  code.Bind(lead);
  for (const sockaddr_storage& listener : options.listeners) {
    if (!six && listener.ss_family != AF_INET) continue;
    const Words ours = WordsOf(listener, six);
    const auto next = code.NewLabel();
    code.JumpOn(BPF_JNE, r8, listener.ss_family, next);
    for (int i = 0; i < words_used; ++i) {
      code.Set(r2, static_cast<int32_t>(ours.address[i]));
      code.Store(BPF_W, r6, address_at + 4 * i, r2);
    }
    code.Set(r2, static_cast<int32_t>(ours.port));
    code.Store(BPF_W, r6, offsetof(bpf_sock_addr, user_port), r2);
    code.Bind(next);
  }
  code.Bind(pass);
  code.Set(r0, 1);
  code.Exit();
  return code.Finish();
}

absl::StatusOr<UniqueFd> LoadProgram(const std::vector<bpf_insn>& program, bool six,
                                     const std::string& name) {
  static char log[16384];
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR;
  attributes.expected_attach_type = six ? BPF_CGROUP_INET6_CONNECT : BPF_CGROUP_INET4_CONNECT;
  attributes.insns = reinterpret_cast<uint64_t>(program.data());
  attributes.insn_cnt = static_cast<uint32_t>(program.size());
  // It calls nothing that asks for a licence.
  attributes.license = reinterpret_cast<uint64_t>("none needed");
  std::strncpy(attributes.prog_name, name.c_str(), sizeof(attributes.prog_name) - 1);
  UniqueFd fd(Bpf(BPF_PROG_LOAD, attributes));
  if (fd.valid()) return fd;
  if (errno == EPERM) return BpfError("loading the redirect into the kernel");
  attributes.log_buf = reinterpret_cast<uint64_t>(log);
  attributes.log_size = sizeof(log);
  attributes.log_level = 1;
  UniqueFd again(Bpf(BPF_PROG_LOAD, attributes));
  if (again.valid()) return again;
  const std::vector<std::string> lines = absl::StrSplit(log, '\n', absl::SkipEmpty());
  const size_t last = lines.size() < 2 ? 0 : lines.size() - 2;
  return BpfError(absl::StrCat("loading the redirect into the kernel (",
                               lines.empty() ? std::string("no word from it") : lines[last], ")"));
}

absl::StatusOr<UniqueFd> OpenCgroup(const std::string& cgroup) {
  std::string folder = cgroup;
  if (folder.empty()) {
    ASSIGN_OR_RETURN(folder, CgroupRoot());
  }
  UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) {
    return absl::NotFoundError(
        absl::StrCat("opening the cgroup ", folder, ": ", std::strerror(errno), kInstead));
  }
  return fd;
}

// IPv6 sockets come to either kind of address, to an IPv4 one by its mapped form; IPv4 sockets to
// IPv4 ones only, and where there is none, most of the program would be out of reach: the kernel
// refuses such a one.
std::vector<bool> FamiliesThatCome(const RedirectOptions& options) {
  const bool four = absl::c_any_of(
      options.destinations, [](const sockaddr_storage& one) { return one.ss_family == AF_INET; });
  return four ? std::vector<bool>{false, true} : std::vector<bool>{true};
}

struct LoadedProgram {
  bool six = false;
  UniqueFd fd;
};
struct Loaded {
  UniqueFd lease, exempt;
  std::vector<LoadedProgram> programs;
};

absl::StatusOr<Loaded> LoadAll(const RedirectOptions& options) {
  const UniqueFd any(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  uint64_t namespace_cookie = 0;
  socklen_t length = sizeof(namespace_cookie);
  if (getsockopt(any.get(), SOL_SOCKET, SO_NETNS_COOKIE, &namespace_cookie, &length) != 0) {
    return BpfError("asking which network namespace this is (Linux 5.14 or newer is needed)");
  }
  Loaded loaded;
  ASSIGN_OR_RETURN(loaded.lease,
                   MakeMap(BPF_MAP_TYPE_ARRAY, sizeof(uint32_t), sizeof(uint64_t), 1));
  ASSIGN_OR_RETURN(loaded.exempt, MakeMap(BPF_MAP_TYPE_LRU_HASH, sizeof(uint64_t), sizeof(uint32_t),
                                          kExemptSockets));
  for (const bool six : FamiliesThatCome(options)) {
    const auto program =
        Program(options, six, loaded.lease.get(), loaded.exempt.get(), namespace_cookie);
    ASSIGN_OR_RETURN(UniqueFd fd, LoadProgram(program, six, options.name));
    loaded.programs.push_back({six, std::move(fd)});
  }
  return loaded;
}

}  // namespace

absl::StatusOr<std::string> CgroupRoot() {
  std::ifstream mounts("/proc/self/mountinfo");
  std::string line;
  while (std::getline(mounts, line)) {
    // "31 23 0:26 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
    const std::vector<std::string> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2 || !absl::StartsWith(halves[1], "cgroup2 ")) continue;
    const std::vector<std::string> words = absl::StrSplit(halves[0], ' ');
    if (words.size() > 4 && words[3] == "/") return words[4];
  }
  return absl::NotFoundError(
      absl::StrCat("redirecting connections: no root of cgroup v2 is mounted", kInstead));
}

absl::Status ConnectRedirect::Check(const std::string& cgroup) {
  RETURN_IF_ERROR(OpenCgroup(cgroup).status());
  // So its end is read back. Who may redirect may not always look whether he does.
  RETURN_IF_ERROR(CountRedirects("").status());
  RedirectOptions options;
  options.name = "firedrill_look";
  sockaddr_storage nobody{};
  nobody.ss_family = AF_INET;
  options.destinations.push_back(nobody);
  return LoadAll(options).status();
}

absl::StatusOr<std::unique_ptr<ConnectRedirect>> ConnectRedirect::Attach(
    const RedirectOptions& options) {
  ASSIGN_OR_RETURN(const UniqueFd cgroup, OpenCgroup(options.cgroup));
  ASSIGN_OR_RETURN(Loaded loaded, LoadAll(options));
  std::unique_ptr<ConnectRedirect> redirect(new ConnectRedirect);
  redirect->lease_ = std::move(loaded.lease);
  redirect->exempt_ = std::move(loaded.exempt);
  for (const LoadedProgram& program : loaded.programs) {
    bpf_attr attributes{};
    attributes.link_create.prog_fd = static_cast<uint32_t>(program.fd.get());
    attributes.link_create.target_fd = static_cast<uint32_t>(cgroup.get());
    attributes.link_create.attach_type =
        program.six ? BPF_CGROUP_INET6_CONNECT : BPF_CGROUP_INET4_CONNECT;
    UniqueFd link(Bpf(BPF_LINK_CREATE, attributes));
    if (!link.valid()) return BpfError("putting the redirect at the cgroup");
    redirect->links_.push_back(std::move(link));
  }
  return redirect;
}

absl::Status ConnectRedirect::SetUntil(absl::Duration boot) {
  const uint32_t key = 0;
  const uint64_t value = static_cast<uint64_t>(absl::ToInt64Nanoseconds(boot));
  return Update(lease_.get(), &key, &value);
}

absl::Status ConnectRedirect::Exempt(int socket) {
  uint64_t cookie = 0;
  socklen_t length = sizeof(cookie);
  if (getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0) {
    return absl::UnavailableError(absl::StrCat("asking for a socket's cookie: ", strerror(errno)));
  }
  const uint32_t value = 1;
  return Update(exempt_.get(), &cookie, &value);
}

absl::StatusOr<int> CountRedirects(absl::string_view name_prefix) {
  int count = 0;
  for (uint32_t id = 0;;) {
    bpf_attr attributes{};
    attributes.start_id = id;
    if (Bpf(BPF_LINK_GET_NEXT_ID, attributes) != 0) {
      if (errno == ENOENT) return count;
      return BpfError("listing the kernel's BPF links");
    }
    id = attributes.next_id;
    attributes = {};
    attributes.link_id = id;
    const UniqueFd link(Bpf(BPF_LINK_GET_FD_BY_ID, attributes));
    if (!link.valid()) continue;  // Gone meanwhile.
    bpf_link_info about{};
    attributes = {};
    attributes.info.bpf_fd = static_cast<uint32_t>(link.get());
    attributes.info.info_len = sizeof(about);
    attributes.info.info = reinterpret_cast<uint64_t>(&about);
    if (Bpf(BPF_OBJ_GET_INFO_BY_FD, attributes) != 0 || about.type != BPF_LINK_TYPE_CGROUP) {
      continue;
    }
    attributes = {};
    attributes.prog_id = about.prog_id;
    const UniqueFd program(Bpf(BPF_PROG_GET_FD_BY_ID, attributes));
    if (!program.valid()) continue;
    bpf_prog_info what{};
    attributes = {};
    attributes.info.bpf_fd = static_cast<uint32_t>(program.get());
    attributes.info.info_len = sizeof(what);
    attributes.info.info = reinterpret_cast<uint64_t>(&what);
    if (Bpf(BPF_OBJ_GET_INFO_BY_FD, attributes) != 0) continue;
    if (absl::StartsWith(what.name, name_prefix)) ++count;
  }
}

}  // namespace firedrill
