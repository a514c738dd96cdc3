// What a node tells a controller of itself.
#include "injector/node_file.h"

#include "gtest/gtest.h"
#include "injector/fault.h"

namespace firedrill {
namespace {

TEST(NodeFile, TellsTheProtocolOfEveryProfile) {
  v1::NodeSpec spec;
  const auto add = [&spec](const char* name) {
    v1::Profile* profile = spec.add_profiles();
    profile->set_name(name);
    return profile;
  };
  add("a")->mutable_postgresql();
  add("b")->mutable_mysql();
  add("c")->mutable_redis();
  add("d")->mutable_http();
  add("e")->mutable_tcp();
  const v1::Registration told = DescribeNode(spec);
  ASSERT_EQ(told.profiles_size(), 5);
  EXPECT_EQ(told.profiles(0).protocol(), v1::PROTOCOL_POSTGRESQL);
  EXPECT_EQ(told.profiles(1).protocol(), v1::PROTOCOL_MYSQL);
  EXPECT_EQ(told.profiles(2).protocol(), v1::PROTOCOL_REDIS);
  EXPECT_EQ(told.profiles(3).protocol(), v1::PROTOCOL_HTTP);
  EXPECT_EQ(told.profiles(4).protocol(), v1::PROTOCOL_TCP);
}

// What a subject means is the node's business: names only.
TEST(NodeFile, TellsTheNamesOfItsSubjects) {
  v1::NodeSpec spec;
  v1::HostSubject& subject = *spec.add_subjects();
  subject.set_name("database");
  subject.set_pidfile("/run/secret-place.pid");
  const v1::Registration told = DescribeNode(spec);
  ASSERT_EQ(told.subjects_size(), 1);
  EXPECT_EQ(told.subjects(0), "database");
  EXPECT_EQ(told.ShortDebugString().find("secret-place"), std::string::npos);
}

// A plan is refused by what the machine lacks, before anything is asked of it.
TEST(NodeFile, TellsWhatThisMachineCannot) {
  const std::optional<Lack> lack = LackOf(v1::Fault::kThrottleCpu);
  int known = 0;
  for (const v1::Capability& capability : RegisteredCapabilities()) {
    if (capability.kind() == "holdConnections") EXPECT_TRUE(capability.available());
    if (capability.kind() != "throttleCpu") continue;
    ++known;
    EXPECT_EQ(capability.available(), !lack.has_value());
    EXPECT_EQ(capability.reason(), lack.has_value() ? lack->reason : "");
  }
  EXPECT_EQ(known, 1);
}

}  // namespace
}  // namespace firedrill
