// What a node tells a controller of itself.
#include "injector/node_file.h"

#include "gtest/gtest.h"

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

}  // namespace
}  // namespace firedrill
