-- Which conversations have got messages since a second, read from the index alone; it serves whoever looked by age as well.
ALTER TABLE claims ADD KEY claims_by_time (created_s, conv, seq);

ALTER TABLE claims DROP KEY claims_by_age;
