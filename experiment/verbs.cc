// The lists: of PostgreSQL 15 and MariaDB 10.11, of Redis 7, of HTTP's registry and its caches.
#include "experiment/verbs.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/text.h"

namespace firedrill {
namespace {

constexpr char kSql[] =
    "abort alter analyse analyze backup begin binlog cache call change check checkpoint "
    "checksum clone close cluster comment commit copy create deallocate declare delete desc "
    "describe discard do drop end execute explain fetch flush get grant handler help import "
    "insert install kill listen load lock merge move notify optimize prepare purge reassign "
    "refresh reindex release rename repair replace reset resignal restart restore revoke "
    "rollback savepoint security select set show shutdown signal start stop table truncate "
    "uninstall unlisten unlock update use vacuum values with xa ";
constexpr char kRedis[] =
    "acl append asking auth bgrewriteaof bgsave bitcount bitfield bitfield_ro bitop bitpos "
    "blmove blmpop blpop brpop brpoplpush bzmpop bzpopmax bzpopmin client cluster command "
    "config copy dbsize debug decr decrby del discard dump echo eval eval_ro evalsha "
    "evalsha_ro exec exists expire expireat expiretime failover fcall fcall_ro flushall "
    "flushdb function geoadd geodist geohash geopos georadius georadius_ro georadiusbymember "
    "georadiusbymember_ro geosearch geosearchstore get getbit getdel getex getrange getset "
    "hdel hello hexists hexpire hexpireat hexpiretime hget hgetall hgetdel hgetex hincrby "
    "hincrbyfloat hkeys hlen hmget hmset hpersist hpexpire hpexpireat hpexpiretime hpttl "
    "hrandfield hscan hset hsetex hsetnx hstrlen httl hvals incr incrby incrbyfloat info keys "
    "lastsave latency lcs lindex linsert llen lmove lmpop lolwut lpop lpos lpush lpushx "
    "lrange lrem lset ltrim memory mget migrate module monitor move mset msetnx multi object "
    "persist pexpire pexpireat pexpiretime pfadd pfcount pfdebug pfmerge pfselftest ping "
    "psetex psubscribe psync pttl publish pubsub punsubscribe quit randomkey readonly "
    "readwrite rename renamenx replconf replicaof reset restore role rpop rpoplpush rpush "
    "rpushx sadd save scan scard script sdiff sdiffstore select set setbit setex setnx "
    "setrange shutdown sinter sintercard sinterstore sismember slaveof slowlog smembers "
    "smismember smove sort sort_ro spop spublish srandmember srem sscan ssubscribe strlen "
    "subscribe substr sunion sunionstore sunsubscribe swapdb sync time touch ttl type unlink "
    "unsubscribe unwatch wait watch xack xadd xautoclaim xclaim xdel xgroup xinfo xlen "
    "xpending xrange xread xreadgroup xrevrange xsetid xtrim zadd zcard zcount zdiff "
    "zdiffstore zincrby zinter zintercard zinterstore zlexcount zmpop zmscore zpopmax zpopmin "
    "zrandmember zrange zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex "
    "zremrangebyrank zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank "
    "zscan zscore zunion zunionstore ";
constexpr char kHttp[] =
    "acl ban bind checkin checkout connect copy delete get head label link lock merge "
    "mkactivity mkcalendar mkcol mkredirectref mkworkspace move notify options orderpatch "
    "patch post pri propfind proppatch purge put query rebind refresh report search subscribe "
    "trace unbind uncheckout unlink unlock unsubscribe update updateredirectref ";

const std::vector<std::string>& Verbs() {
  static const auto* const verbs = new std::vector<std::string>([] {
    std::vector<std::string> all;
    // The nearest of the first list goes before one of a later list that is as near.
    for (const char* words : {kSql, kRedis, kHttp}) {
      for (const absl::string_view word : absl::StrSplit(words, ' ', absl::SkipEmpty())) {
        all.emplace_back(word);
      }
    }
    return all;
  }());
  return *verbs;
}

}  // namespace

bool IsVerb(absl::string_view word) {
  // A command of a module of Redis: JSON.GET.
  if (word.find('.') != word.npos) return true;
  const std::vector<std::string>& verbs = Verbs();
  return std::find(verbs.begin(), verbs.end(), absl::AsciiStrToLower(word)) != verbs.end();
}

std::string VerbAdvice(const std::string& word) {
  const std::string nearest = NearestOf(absl::AsciiStrToLower(word), Verbs());
  if (!nearest.empty()) return absl::StrCat("did you mean '", nearest, "'?");
  return absl::StrCat("requests that begin with it are met by their text: regex: '(?i)^", word,
                      "\\b'");
}

}  // namespace firedrill
