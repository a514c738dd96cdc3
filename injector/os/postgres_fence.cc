// A PostgreSQL server that turns its sessions away.
#include "injector/os/postgres_fence.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status_macros.h"
#include "injector/by_hand.h"
#include "injector/os/index_access.h"

namespace firedrill {
namespace {

constexpr char kMissingFile[] = "58P01";
constexpr char kStays[] = "stays";

// 'a', 'b' for a, "b": each library by itself, else all of them were the name of one.
std::string AsList(absl::string_view setting) {
  std::vector<std::string> quoted;
  for (absl::string_view part : absl::StrSplit(setting, ',', absl::SkipWhitespace())) {
    part = absl::StripAsciiWhitespace(part);
    while (absl::ConsumePrefix(&part, "\"") || absl::ConsumeSuffix(&part, "\"")) {
    }
    quoted.push_back(PreloadName(part));
  }
  return absl::StrJoin(quoted, ", ");
}

absl::Status SetPreloaded(PostgresSession& session, const std::string& list,
                          const Patience& patience) {
  const std::string sql = list.empty()
                              ? "ALTER SYSTEM RESET session_preload_libraries"
                              : absl::StrCat("ALTER SYSTEM SET session_preload_libraries = ", list);
  RETURN_IF_ERROR(session.Query(sql, {}, patience).status());
  return session.Query("SELECT pg_reload_conf()", {}, patience).status();
}

std::string ByHand(const PostgresFence& fence, const v1::PostgresqlServer& server) {
  const std::string back =
      fence.former.empty()
          ? "ALTER SYSTEM RESET session_preload_libraries"
          : absl::StrCat("ALTER SYSTEM SET session_preload_libraries = ", fence.former);
  return absl::StrCat("PGOPTIONS='-c session_preload_libraries=' psql -h ",
                      ShellQuoted(server.host()), " -p ", server.port() == 0 ? 5432 : server.port(),
                      " -U ", ShellQuoted(server.user()), " -d ", ShellQuoted(server.database()),
                      " -c ", ShellQuoted(back), " -c 'SELECT pg_reload_conf()'",
                      fence.stays ? "  # only once no other server takes writes in its place" : "");
}

}  // namespace

PostgresSettings PastTheFence() { return {{"session_preload_libraries", ""}}; }

absl::Status HoldFence(PostgresSession& session, const Patience& patience) {
  return session
      .Query("SELECT pg_advisory_lock(hashtextextended('firedrill_fence', 0))", {}, patience)
      .status();
}

absl::StatusOr<std::string> PreloadedNow(PostgresSession& session, const Patience& patience) {
  ASSIGN_OR_RETURN(
      const PostgresRows file,
      session.Query("SELECT setting FROM pg_file_settings WHERE name = "
                    "'session_preload_libraries' AND sourcefile LIKE '%/postgresql.auto.conf'",
                    {}, patience));
  return AsList(file.empty() || file[0].empty() ? "" : file[0][0].value_or(""));
}

absl::Status PutUpFence(PostgresSession& session, const PostgresFence& fence,
                        const Patience& patience) {
  return SetPreloaded(session, PreloadName(fence.library), patience);
}

absl::Status TakeDownFence(PostgresSession& session, const PostgresFence& fence,
                           const Patience& patience) {
  return SetPreloaded(session, fence.former, patience);
}

bool IsRefusalBy(absl::string_view library, const absl::Status& status) {
  return SqlState(status) == kMissingFile && absl::StrContains(status.message(), library);
}

std::string PreloadName(absl::string_view library) {
  return absl::StrCat("'", absl::StrReplaceAll(library, {{"'", "''"}}), "'");
}

Undo FenceUndo(const PostgresFence& fence, const v1::PostgresqlServer& server) {
  return {
      .kind = "postgres_fence",
      .resource = absl::StrCat("session_preload_libraries of postgresql/", fence.system_identifier,
                               "/", server.port() == 0 ? 5432 : server.port()),
      .before = fence.former,
      .after = PreloadName(fence.library),
      .by_hand = ByHand(fence, server),
      .access = WriteIndexAccess({{"system_identifier", fence.system_identifier},
                                  {"library", fence.library},
                                  {"former", fence.former},
                                  {"fence", fence.stays ? kStays : "is lifted"}},
                                 server)};
}

absl::Status ReadFenceUndo(const Undo& undo, PostgresFence* fence, v1::PostgresqlServer* server) {
  std::string stays;
  RETURN_IF_ERROR(ReadIndexAccessInto(undo.access,
                                      {{"system_identifier", &fence->system_identifier},
                                       {"library", &fence->library},
                                       {"former", &fence->former},
                                       {"fence", &stays}},
                                      {}, server));
  fence->stays = stays == kStays;
  return absl::OkStatus();
}

}  // namespace firedrill
