alter table items add column stock int not null default 0;
