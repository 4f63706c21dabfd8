"""Kafka's side: records in, one lane for each owned partition, signals out once. Only this room knows Faust and aiokafka."""
