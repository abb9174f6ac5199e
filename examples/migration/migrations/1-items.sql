create table items (name text primary key, price numeric not null);
insert into items values ('tea', 2.50), ('cake', 3);
